"""The status page: which workload has which version, as HTML."""
