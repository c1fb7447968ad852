"""Reads the HMAC key for object versions from a Kubernetes Secret, or creates the Secret.

The Secret gives all nodes the same key, and therefore the same versions.

Source: docs/reference/upstream-vault-provider.md#hmac-key
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.errors import PlatformError, Stage
from keyferry.providers.vault.hmac_key import KEY_BYTES
from keyferry.providers.vault.hmac_key_responses import parse_key, secret_manifest, was_created
from keyferry.providers.vault.http.client import VaultRequest

if TYPE_CHECKING:
    from keyferry.providers.vault.http.kubernetes_api import KubernetesApi

_ATTEMPTS = 2
"""The second attempt reads the Secret that another node created during the first."""


class HmacKeySecret:
    """Implements `HmacKeySource` with a Kubernetes Secret.

    Args:
        api: the Kubernetes API.
        name: name of the Secret, in the namespace of this process.
    """

    def __init__(self, api: KubernetesApi, name: str) -> None:
        self._api = api
        self._name = name

    async def load(self) -> bytes:
        """Return the key of the Secret; create the Secret with a random key if it is missing.

        Raises:
            PlatformError: access is denied, or the Secret has no key.
            KeyferryError: the API does not respond.
        """
        namespace = await self._api.namespace()
        secret = f"{namespace}/{self._name}"
        folder = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"
        path = f"{folder}/{quote(self._name, safe='')}"
        for _ in range(_ATTEMPTS):
            response = await self._api.send(VaultRequest(path, f"read Secret {secret}"))
            key = parse_key(response.status, response.body, secret)
            if key is not None:
                return key
            key = secrets.token_bytes(KEY_BYTES)
            # A retry is harmless: it gets a conflict if the first try created the Secret.
            manifest = secret_manifest(self._name, namespace, key)
            request = VaultRequest(folder, f"create Secret {secret}", "POST", manifest)
            created = await self._api.send(request)
            if was_created(created.status, created.body, secret):
                return key
        raise PlatformError(
            f"Secret {secret} is repeatedly created and deleted",
            "Ensure that only Keyferry creates and deletes this Secret.",
            stage=Stage.STORE,
        )
