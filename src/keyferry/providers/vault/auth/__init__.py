"""Logins and tokens of Vault and OpenBao."""
