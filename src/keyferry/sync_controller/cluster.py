"""What the controller asks of the Kubernetes API, beside its caches.

Right before each write is sent, the guard checks whether this process still leads.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from keyferry.errors import StoreUnavailableError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.resources import SecretResource
from keyferry.kubernetes.api.syncs.status import write_status
from keyferry.kubernetes.api.syncs.tokens import TokenRequest, request_token
from keyferry.kubernetes.syncs.fields import CREDENTIALS_SECRET
from keyferry.kubernetes.syncs.sync_errors import CredentialsSecretError
from keyferry.sync_controller.rules.request import Token
from keyferry.sync_controller.rules.status import without_times
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.syncs.cache import SyncCache
    from keyferry.kubernetes.api.syncs.leader_election import Leadership
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncStatus
    from keyferry.sync_controller.settings import TokenSettings
    from keyferry.sync_controller.tokens import TokenKey


_CRD_REMEDY = (
    "In the chart: secretSync.crd=auto; or kubectl apply --server-side --force-conflicts -f"
    " deploy/crds/secretsyncs.yaml"
)
_log = get_logger("sync")


class NotLeadingError(StoreUnavailableError):
    """Another process leads, so this one may not write."""


class WriteGuard:
    """Permits writes while this process leads.

    Args:
        leadership: knows.
    """

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    def check(self) -> None:
        """Check that this process may write.

        Raises:
            NotLeadingError: it does not lead any more.
        """
        if not self._leadership.is_leader:
            raise NotLeadingError(
                "another replica of the controller leads", "The leader repeats the attempt."
            )


class SyncCluster:
    """Implements `StatusWriter`, `TokenIssuer` and `CredentialReader` with the Kubernetes API.

    Args:
        api: the Kubernetes API.
        cache: learns of statuses that this process has written.
        guard: permits writes.
        tokens: how tokens are requested.
        node: the node of this pod.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        cache: SyncCache,
        guard: WriteGuard,
        tokens: TokenSettings,
        node: str,
    ) -> None:
        self._api = api
        self._cache = cache
        self._guard = guard
        self._node = node if tokens.binds_to_node else None
        self._reduced: dict[str, SyncStatus] = {}
        """By uid: statuses of which the CRD dropped fields, as they were to be."""

    async def write_status(self, sync: SecretSync, status: SyncStatus) -> None:
        """Write the status of a SecretSync; see `StatusWriter`."""
        if without_times(status) == self._reduced.get(sync.ref.uid):
            return
        written = await write_status(self._api, sync, status, self._guard.check)
        if written is None:
            self._reduced.pop(sync.ref.uid, None)
            return
        self._cache.upsert_status(written)
        if status.observed_class and not written.status.observed_class:
            self._reduced[sync.ref.uid] = without_times(status)
            _log.warning_once(
                "the CRD drops fields of SecretSyncs: it is that of upstream or of an old version",
                group=str(sync.ref.group),
                remedy=_CRD_REMEDY,
            )

    async def issue(self, key: TokenKey) -> Token:
        """Request a token; see `TokenIssuer`."""
        request = TokenRequest(key.namespace, key.service_account, key.audience, node=self._node)
        issued = await request_token(self._api, request)
        return Token(issued.token, issued.expires_at, issued.seconds)

    async def read_credentials(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the data of a Secret with credentials; see `CredentialReader`."""
        manifest = await self._api.find(SecretResource, namespace, name)
        if manifest is None:
            raise CredentialsSecretError(
                f"Secret {namespace}/{name} of the annotation {CREDENTIALS_SECRET} does not exist",
                "Create the Secret, or correct the annotation of the SecretSync.",
            )
        try:
            data = Field(manifest)["data"].text_mapping()
            return {key: base64.b64decode(text).decode() for key, text in data.items()}
        except (FieldTypeError, binascii.Error, UnicodeError):
            raise CredentialsSecretError(
                f"Secret {namespace}/{name} has a value that is not text",
                "Store only text values in a Secret with credentials.",
            ) from None
