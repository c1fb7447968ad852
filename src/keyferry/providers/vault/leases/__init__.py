"""Leases of dynamic secrets."""
