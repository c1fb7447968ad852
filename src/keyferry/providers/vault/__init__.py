"""The provider for HashiCorp Vault and OpenBao (`provider: vault` and `provider: openbao`)."""
