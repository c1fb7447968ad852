"""Requests to a Vault or OpenBao server."""
