"""Access tokens for Azure Key Vault."""
