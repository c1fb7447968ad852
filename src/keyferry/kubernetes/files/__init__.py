"""A folder of YAML manifests as object store."""
