"""The Kubernetes Secret that holds the key of versions: read, or made by whoever comes first.

All nodes have the same key by it, and so the same versions.

Source: docs/reference/upstream-vault-provider.md#hmac-key
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.errors import PlatformError, Stage
from keyferry.providers.vault.hmac_key_responses import parse_key, secret_manifest, was_created
from keyferry.providers.vault.http.client import VaultRequest

if TYPE_CHECKING:
    from keyferry.providers.vault.http.kubernetes_api import KubernetesApi

KEY_BYTES = 32
_ATTEMPTS = 2
"""The second one finds what another node has made during the first."""


class HmacKeySecret:
    """Gets the key.

    Args:
        api: the Kubernetes API.
        name: of the Secret, which is in the namespace of this process.
    """

    def __init__(self, api: KubernetesApi, name: str) -> None:
        self._api = api
        self._name = name

    async def load(self) -> bytes:
        """The key in the Secret, which is made with a random one where there is none.

        Raises:
            PlatformError: there is no right to it, or what is there is no key.
            KeyferryError: the API does not answer.
        """
        namespace = await self._api.namespace()
        secret = f"{namespace}/{self._name}"
        folder = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"
        path = f"{folder}/{quote(self._name, safe='')}"
        for _ in range(_ATTEMPTS):
            reply = await self._api.send(VaultRequest(path, f"read Secret {secret}"))
            found = parse_key(reply.status, reply.body, secret)
            if found is not None:
                return found
            new = secrets.token_bytes(KEY_BYTES)
            # Sent twice it is no harm: the second time it is there already.
            request = VaultRequest(
                folder, f"make Secret {secret}", "POST", secret_manifest(self._name, namespace, new)
            )
            if was_created((await self._api.send(request)).status, secret):
                return new
        raise PlatformError(
            f"Secret {secret} comes and goes",
            "Let nobody but Keyferry make and delete it.",
            stage=Stage.STORE,
        )
