"""The SecretSyncs of examples/secret-sync, fetched as the controller does.

data = await synced_data(read_example("azure"), deps, tokens=issue)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.kubernetes.class_codec import parse_class
from keyferry.kubernetes.objects import SecretProviderClass
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from keyferry.kubernetes.syncs.objects import SecretSync
from keyferry.plugins.providers import Providers
from keyferry.providers.host import ProviderHost
from keyferry.providers.settings import ProviderDependencies
from keyferry.records import replace
from keyferry.secrets.builder import Definition, choose_files
from keyferry.secrets.jobs import data_of
from keyferry.sync_controller.content import SyncContent
from keyferry.sync_controller.rules.request import Token
from keyferry.sync_controller.settings import ControllerPod, TokenSettings
from keyferry.sync_controller.tokens import ServiceAccountTokens, TokenKey
from keyferry.telemetry.audit import NullAuditLog

EXAMPLES = Path(__file__).parents[2] / "examples" / "secret-sync"
AUDIENCES = ("api://AzureADTokenExchange", "vault", "openbao")


@dataclass(frozen=True)
class Example:
    """A SecretSync and its SecretProviderClass."""

    sync: SecretSync
    spc: SecretProviderClass

    def with_parameters(self, parameters: Mapping[str, str]) -> Example:
        """Replace or add parameters of the SecretProviderClass."""
        merged = {**self.spc.parameters, **parameters}
        return replace(self, spc=replace(self.spc, parameters=merged))


def read_example(name: str) -> Example:
    """Read a file of the folder, as an API server returns its objects."""
    documents = yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text())
    kinds = {each["kind"]: each for each in documents}
    metadata = {"uid": "uid-1", "generation": 1, **kinds["SecretSync"]["metadata"]}
    return Example(
        parse_sync({**kinds["SecretSync"], "metadata": metadata}, UPSTREAM_GROUP),
        parse_class(kinds["SecretProviderClass"], default_namespace="default"),
    )


class _Issuer:
    """Implements `TokenIssuer`."""

    def __init__(self, issue: Callable[[TokenKey], str]) -> None:
        self._issue = issue

    async def issue(self, key: TokenKey) -> Token:
        return Token(self._issue(key), datetime(2100, 1, 1, tzinfo=UTC), 600)


class _NoCredentials:
    """Implements `CredentialReader`."""

    async def read_credentials(self, namespace: str, name: str) -> Mapping[str, str]:
        raise AssertionError(f"{namespace}/{name} is not needed")


async def synced_data(
    example: Example, deps: ProviderDependencies, *, issue: Callable[[TokenKey], str]
) -> Mapping[str, bytes]:
    """Return the data of the Secret.

    Args:
        example: the SecretSync.
        deps: of its provider.
        issue: returns a token of a service account.
    """
    clock, jobs = SystemClock(), ThreadJobRunner()
    sync, spc = example.sync, example.spc
    host = ProviderHost.build((spc.provider,), deps)
    async with Providers(built_in=host, socket_folders=(), max_receive_bytes=1 << 22) as providers:
        content = SyncContent(
            providers=providers,
            tokens=ServiceAccountTokens(_Issuer(issue), TokenSettings(AUDIENCES), clock),
            credentials=_NoCredentials(),
            jobs=jobs,
            audit_log=NullAuditLog(),
            clock=clock,
            pod=ControllerPod(),
        )
        fetched = await content.fetch(sync, spc, interval=None, not_before=None)
    chosen = choose_files(
        sync.secret_object, fetched.files, fetched.named_files, definition=Definition.SECRET_SYNC
    )
    assert chosen.request is not None
    return await data_of(chosen.request, jobs, tenant=sync.ref.namespace)
