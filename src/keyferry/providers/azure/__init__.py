"""The provider for Azure Key Vault: SecretProviderClasses with `spec.provider: azure`."""
