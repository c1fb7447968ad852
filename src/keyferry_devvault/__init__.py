"""Emulator of Azure Key Vault, its token endpoints and IMDS, on loopback.

It shares no code with the provider that talks to it, so that neither can hide a defect of the
other. A request passes through `server` (ports), `gateway` (selects the service by host, injects
faults), `keyvault`, `entra` or `machine` (responses), and `storage` (SQLite).
"""
