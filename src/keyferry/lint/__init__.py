"""Checks of manifests that need neither a cluster nor a vault: `keyferry lint`."""
