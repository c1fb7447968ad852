"""What the SecretSync controller asks of the Kubernetes API."""
