"""Commands that read or change a cluster through the Kubernetes API, as kubectl does."""
