"""Classes that read from a server of the tests."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from tests.e2e.vault.server import VaultServer

Entry = Mapping[str, object]
"""One entry of `objects`."""


def entry(name: str, path: str, key: str = "", **fields: object) -> Entry:
    """An object: file `name` from `path`, one key of it or all."""
    return {"objectName": name, "secretPath": path, **({"secretKey": key} if key else {}), **fields}


def class_spec(
    vault: VaultServer, *objects: Entry, provider: str = "openbao", **parameters: str
) -> dict[str, object]:
    """The spec of a class that reads `objects` from `vault`, by default through auth/jwt."""
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
