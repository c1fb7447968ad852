"""A development vault: Azure Key Vault, its token endpoints and IMDS, played on loopback.

It is a separate world: it shares no code with the provider that talks to it, so that neither can
hide a defect of the other. The way of a request: `server` (ports) -> `gateway` (which station of
the cloud is meant, what is tuned) -> `vault` and `secrets`, `entra` or `imds` (answers) -> `data`
(SQLite).
"""
