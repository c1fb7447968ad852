"""The engine of the driver without a cluster, for `keyferry mount`, `run` and `get`."""
