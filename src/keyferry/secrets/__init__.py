"""The data of Kubernetes Secrets, from the files of a provider."""
