"""The privileged side of the Vault and OpenBao providers, and its use by the unprivileged side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import PodTokenRequest
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.privileges import NoPrivileges
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.vault.auth.login import PodInfo
from keyferry.providers.vault.auth.service_account_tokens import ApiTokenRequester
from keyferry.providers.vault.hmac_key import load_or_create_key
from keyferry.providers.vault.hmac_key_secret import HmacKeySecret
from keyferry.providers.vault.http.client import VaultHttp
from keyferry.providers.vault.http.kubernetes_api import KubernetesApi
from keyferry.providers.vault.http.tls import TlsContexts

if TYPE_CHECKING:
    from keyferry.net.http_client import HttpsSettings
    from keyferry.providers.privileges import Privileges
    from keyferry.providers.settings import VaultSettings
    from keyferry.resilience.transport import RetryingTransport


class VaultPrivileges(NoPrivileges):
    """Implements `Privileges` with the service account of this process and its files.

    Args:
        settings: settings from flags and environment.
        https: settings of connections.
        transport: limits and retries requests to the Kubernetes API.
    """

    def __init__(
        self, settings: VaultSettings, https: HttpsSettings, transport: RetryingTransport
    ) -> None:
        self._settings = settings
        self._https = HttpsClient(https)
        # The administrator names the Kubernetes API, and no SecretProviderClass.
        contexts = TlsContexts(self._https, ClassFiles(UNRESTRICTED))
        self._http = VaultHttp(self._https, contexts, UNRESTRICTED)
        self._transport = transport

    async def request_token(self, request: PodTokenRequest) -> str:
        """Request a token from the Kubernetes API; see `Privileges`."""
        pod = PodInfo(
            namespace=request.namespace,
            service_account=request.service_account,
            name=request.pod_name,
            uid=request.pod_uid,
        )
        return await ApiTokenRequester(self._api()).request_token(pod, request.audience)

    async def load_shared_key(self) -> bytes:
        """Read the Secret with the HMAC key, or create it; see `Privileges`."""
        return await HmacKeySecret(self._api(), self._settings.hmac_secret).load()

    async def load_node_key(self) -> bytes:
        """Read the file with the HMAC key, or create it; see `Privileges`."""
        return await asyncio.to_thread(load_or_create_key, Path(self._settings.hmac_key_file))

    async def close(self) -> None:
        """Close the connections to the Kubernetes API."""
        await self._http.close()
        await self._https.close()

    def _api(self) -> KubernetesApi:
        return KubernetesApi(
            self._http,
            self._transport,
            url=self._settings.kubernetes_url,
            service_account_folder=self._settings.service_account_folder,
        )


class PrivilegedTokenRequester:
    """Implements `TokenRequester` with the privileged side of the provider.

    Args:
        privileges: the privileged side.
    """

    def __init__(self, privileges: Privileges) -> None:
        self._privileges = privileges

    async def request_token(self, pod: PodInfo, audience: str) -> str:
        """Return a token for the service account of `pod`; see `TokenRequester`."""
        return await self._privileges.request_token(
            PodTokenRequest(pod.namespace, pod.service_account, pod.name, pod.uid, audience)
        )


class PrivilegedKeySource:
    """Implements `HmacKeySource` with the privileged side of the provider.

    Args:
        privileges: the privileged side.
    """

    def __init__(self, privileges: Privileges) -> None:
        self._privileges = privileges

    async def load(self) -> bytes:
        """Return the shared key; see `HmacKeySource`."""
        return await self._privileges.load_shared_key()
