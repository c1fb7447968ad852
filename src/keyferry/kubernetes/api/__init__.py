"""The Kubernetes API as object store."""
