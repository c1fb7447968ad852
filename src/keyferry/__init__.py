"""Secret delivery for Kubernetes: from a vault to the pod, as files and as Kubernetes Secrets."""

__version__ = "0.1.0"
