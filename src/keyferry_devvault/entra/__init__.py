"""Microsoft Entra endpoints."""
