"""Which workload has which version of an object: `keyferry status`."""
