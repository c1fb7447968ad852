"""The SecretSync controller: Kubernetes Secrets without a pod."""
