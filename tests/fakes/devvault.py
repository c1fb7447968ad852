"""A development vault in the process of the test, for any test that needs a Key Vault.

async with running_devvault(tmp_path) as vault:
    vault.add_managed_identity("11111111-0000-4000-8000-000000000001")
    vault.set_secret("contoso", "db-password", "s3cret")
    vault.grant("contoso", "11111111-0000-4000-8000-000000000001", "get", "list")
    https = HttpsClient(vault.emulator.https)
    provider = AzureProvider(https, Fetcher(), emulator=vault.emulator)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from keyferry.providers.emulator import Emulator
from keyferry.records import replace
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.crypto.key_material import generate_key, key_pem
from keyferry_devvault.entra.service_account_tokens import kubelet_tokens
from keyferry_devvault.http_types import RequestKind
from keyferry_devvault.model import (
    CLUSTER_ISSUER,
    DEFAULT_TENANT,
    EXCHANGE_AUDIENCE,
    CloseMidResponse,
    Fault,
    FaultAction,
    FederatedCredential,
    Hang,
    Permission,
    RespondStatus,
    SecretAttributes,
    Tuning,
)
from keyferry_devvault.request_log import RequestLog, RequestRecord
from keyferry_devvault.server import serve
from keyferry_devvault.storage.certificates import CertificateSpec
from keyferry_devvault.storage.credentials import PodAssignment
from keyferry_devvault.storage.data import DevVaultData

__all__ = [
    "DEFAULT_TENANT",
    "CertificateSpec",
    "CloseMidResponse",
    "DevVault",
    "Hang",
    "RespondStatus",
    "running_devvault",
]


class DevVault:
    """A running development vault. Everything may be changed while it runs.

    Attributes:
        redirect: where it listens, and the CA to trust.
        data: the tables, for what the methods below do not offer.
        request_log: what was asked so far.
    """

    def __init__(self, data: DevVaultData, request_log: RequestLog, redirect: DevRedirect) -> None:
        self.data = data
        self.request_log = request_log
        self.redirect = redirect

    @property
    def emulator(self) -> Emulator:
        """What providers know of it: `HttpsClient(vault.emulator.https)` talks to it."""
        return self.redirect.emulator()

    # --- secrets -----------------------------------------------------------------------------

    def set_secret(
        self,
        vault: str,
        name: str,
        value: str,
        *,
        content_type: str | None = None,
        enabled: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Store a new version, creating the vault where it is missing; return the version's id."""
        attributes = SecretAttributes(enabled=enabled, content_type=content_type, tags=tags)
        return self.data.secrets.set(vault, name, value, attributes).version

    def disable(self, vault: str, name: str, version: str | None = None) -> None:
        """Disable one version, or the latest."""
        self.data.secrets.update(vault, name, version, SecretAttributes(enabled=False))

    def enable(self, vault: str, name: str, version: str | None = None) -> None:
        """Enable one version, or the latest."""
        self.data.secrets.update(vault, name, version, SecretAttributes(enabled=True))

    def delete(self, vault: str, name: str) -> None:
        """Delete a secret; it stays recoverable, as in the real vault."""
        self.data.secrets.delete(vault, name)

    # --- keys and certificates ---------------------------------------------------------------

    def create_key(
        self, vault: str, name: str, kind: str = "EC", *, size: int = 2048, curve: str = "P-256"
    ) -> str:
        """Make a new version of a key, creating the vault where it is missing; return its id."""
        self.data.vaults.ensure(vault)
        document = {"pem": key_pem(generate_key(kind, size=size, curve=curve)), "kty": kind}
        return self.data.vault_keys.put(vault, name, uuid4().hex, document).version

    def create_certificate(self, vault: str, name: str, spec: CertificateSpec) -> str:
        """Make a certificate with its key and its secret; return the id of the three."""
        self.data.vaults.ensure(vault)
        return self.data.certificates.create(vault, name, spec).version

    def import_certificate(
        self, vault: str, name: str, content: bytes, *, content_type: str | None = None
    ) -> str:
        """Take a certificate with its key out of PEM or PKCS#12; return the id of its version."""
        self.data.vaults.ensure(vault)
        store = self.data.certificates
        return store.import_(vault, name, content, content_type=content_type).version

    # --- identities --------------------------------------------------------------------------

    def add_app(self, client_id: str, *, tenant: str | None = None, secret: str | None) -> None:
        """Register an application with its client secret (None: federated tokens only).

        The first tenant that is named here or below is also that of everything added without one;
        until then that is `DEFAULT_TENANT`.
        """
        self.data.identities.add_app(client_id, tenant=tenant, secret=secret)

    def add_managed_identity(
        self, client_id: str, *, tenant: str | None = None, system_assigned: bool = False
    ) -> None:
        """Assign a managed identity to this machine, so that IMDS answers for it."""
        self.data.identities.add_managed(client_id, tenant=tenant, system_assigned=system_assigned)

    def federate(
        self,
        client_id: str,
        *,
        subject: str,
        issuer: str = CLUSTER_ISSUER,
        audience: str = EXCHANGE_AUDIENCE,
    ) -> None:
        """Let service-account tokens stand for an app or a user-assigned identity."""
        self.data.identities.add_federated_credential(
            FederatedCredential(client_id, issuer, subject, audience)
        )

    def add_app_certificate(self, client_id: str, pem: str) -> None:
        """Let assertions that the key of a certificate signed stand for an app."""
        self.data.credentials.add_certificate(client_id, pem)

    def assign_to_pods(self, client_id: str, *, namespace: str, pod: str = "*") -> None:
        """Let NMI give tokens of a managed identity to the pods of this name."""
        self.data.credentials.assign_to_pods(PodAssignment(client_id, namespace, pod))

    def grant(self, vault: str, principal: str, *permissions: str) -> None:
        """Set the access policy of an identity on a vault, `get` where nothing is said.

        The vault and the identity must exist. A vault belongs to the tenant of the identity that
        is granted something; two tenants on one vault are refused.
        """
        wanted = permissions or (Permission.GET,)
        self.data.policies.set_permissions(vault, principal, [Permission(text) for text in wanted])

    def revoke(self, vault: str, principal: str) -> None:
        """Remove the access policy of an identity."""
        self.data.policies.set_permissions(vault, principal, [])

    def service_account_token(
        self,
        subject: str,
        *,
        audience: str | tuple[str, ...] = EXCHANGE_AUDIENCE,
        lifetime_seconds: int = 3600,
    ) -> str:
        """What kubelet puts into the attribute `csi.storage.k8s.io/serviceAccount.tokens`.

        A negative lifetime makes tokens that have expired.
        """
        audiences = (audience,) if isinstance(audience, str) else audience
        return kubelet_tokens(
            self.data.signing_keys,
            subject,
            audiences=audiences,
            now=time.time(),
            lifetime=lifetime_seconds,
        )

    # --- behaviour ---------------------------------------------------------------------------

    def tune(
        self,
        *,
        latency_seconds: float = 0.0,
        throttle_per_second: int | None = None,
        retry_after_seconds: int = 1,
        token_lifetime_seconds: int = 3600,
    ) -> None:
        """Put these numbers in force; what is left out goes back to its default."""
        self.data.fault_injection.tune(
            replace(
                Tuning(),
                latency=latency_seconds,
                throttle=throttle_per_second,
                retry_after=retry_after_seconds,
                token_lifetime=token_lifetime_seconds,
            )
        )

    def add_fault(self, match: str, action: FaultAction, *, times: int | None = 1) -> None:
        """Let something go wrong `times` times (None: for ever).

        Args:
            match: the beginning of `host/path`, or of the path on any host when it begins with `/`:
                `contoso.vault.azure.net/secrets/db`, `login.microsoftonline.com`, `/metadata`.
            action: `RespondStatus(500)`, `RespondStatus(429, retry_after=2)`, `CloseHalfWay()`,
                `Hang()`.
            times: how often.
        """
        self.data.fault_injection.add_fault(Fault(match, action, times))

    def clear_faults(self, match: str | None = None) -> None:
        """Forget all faults, or those that were added with this `match`."""
        self.data.fault_injection.clear_faults(match)

    # --- what was asked ----------------------------------------------------------------------

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests that are over, in the order in which they ended."""
        return list(self.request_log.records)

    def count(self, kind: RequestKind | None = None, *, status: int | None = None) -> int:
        """How many requests of this kind ended with this status; None means any."""
        return sum(
            kind in (None, record.kind) and status in (None, record.status)
            for record in self.request_log.records
        )

    def clear_requests(self) -> None:
        """Start counting from nothing."""
        self.request_log.clear()


@asynccontextmanager
async def running_devvault(
    folder: Path, *, wall_time: Callable[[], float] = time.time
) -> AsyncIterator[DevVault]:
    """Run a development vault on free ports, its data in `folder / "devvault"`.

    `wall_time` dates what is written into it, in seconds since 1970; tokens go by the real time.
    """
    journal, home = RequestLog(), folder / "devvault"
    with DevVaultData(home, wall_time) as served, DevVaultData(home, wall_time) as data:
        async with serve(served, request_log=journal):
            yield DevVault(data, journal, DevRedirect.read(data.folder))
