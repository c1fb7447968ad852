"""Key Vault data plane."""
