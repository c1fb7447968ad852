"""The provider API, its registry and the built-in providers."""
