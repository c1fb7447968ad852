"""SecretProviderClasses that read from a test server."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from tests.e2e.vault.server import VaultServer

Entry = Mapping[str, object]
"""One entry of `objects`."""


def entry(name: str, path: str, key: str = "", **fields: object) -> Entry:
    """Return an object: file `name` with one key of `path`, or with the whole response."""
    return {"objectName": name, "secretPath": path, **({"secretKey": key} if key else {}), **fields}


def class_spec(
    vault: VaultServer, *objects: Entry, provider: str = "openbao", **parameters: str
) -> dict[str, object]:
    """Return a SecretProviderClass spec that reads from `vault`, by default with auth/jwt."""
    return {
        "provider": provider,
        "parameters": {
            "vaultAddress": vault.address,
            "vaultCACertPath": str(vault.ca),
            "vaultAuthMountPath": "jwt",
            "objects": yaml.safe_dump(list(objects)),
            **parameters,
        },
    }
