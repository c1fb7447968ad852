"""The provider for Azure Key Vault: classes whose `spec.provider` is `azure`."""
