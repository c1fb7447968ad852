"""The provider for HashiCorp Vault and OpenBao: classes with `provider: vault` or `openbao`."""
