"""Logins and tokens."""
