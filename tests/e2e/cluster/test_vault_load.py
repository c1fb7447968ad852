"""Requests of a full node of pods with ten service accounts, counted in the audit log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.node import NAMESPACE, BareNode, Volume, running_bare_node
from tests.e2e.vault.classes import class_spec, entry
from tests.e2e.vault.engines import enable_kv, put_kv
from tests.e2e.vault.server import VaultServer, running_server

PODS = 110
ROLES = 10
OBJECTS = 10
INTERVAL_SECONDS = 5
LATER = "2126-01-01T00:00:00Z"


@pytest.mark.timeout(300)
async def test_a_full_node_logs_in_once_per_role_and_reads_each_object_once(
    tmp_path: Path, show: Callable[[str], None]
) -> None:
    """For any number of pods, at the first mount and at a refresh."""
    async with (
        running_api_server(tmp_path / "api") as server,
        running_server(tmp_path / "bao") as openbao,
        running_bare_node(tmp_path / "node") as node,
    ):
        await enable_cluster_auth(openbao, server)
        await enable_kv(openbao, "secret", version=2)
        await server.kubectl("create", "namespace", NAMESPACE)
        tokens = [await _prepare(openbao, server, node, role) for role in range(ROLES)]
        driver = await node.start_driver(
            "--enable-secret-rotation",
            f"--rotation-poll-interval={INTERVAL_SECONDS}s",
            "--list-revalidation=false",
        )
        volumes = [_volume(node, number, tokens[number % ROLES]) for number in range(PODS)]

        counted = Counted(openbao, show)
        async with counted("first mount") as first:
            await asyncio.gather(*map(driver.publish, volumes))
        assert ROLES == first.logins
        assert ROLES * OBJECTS <= first.reads <= first.most_intervals * ROLES * OBJECTS
        for number, volume in enumerate(volumes):
            assert _expected(number % ROLES, "first") == _contents(volume)

        for role in range(ROLES):
            await _fill(openbao, role, "second")
        async with counted("refresh") as later:
            while not all(_is_new(number, volume) for number, volume in enumerate(volumes)):
                await asyncio.gather(*map(driver.publish, volumes))
        assert 0 == later.logins
        # Identities that refreshed while the values were written were read before the count.
        assert 0 < later.reads <= later.most_intervals * ROLES * OBJECTS
        await driver.stop()


@dataclass
class Seen:
    """Requests that the server received while a block ran."""

    logins: int = 0
    reads: int = 0
    seconds: float = 0.0

    @property
    def most_intervals(self) -> int:
        """The maximum number of refresh intervals, and so of reads per object."""
        return 2 + int(self.seconds // INTERVAL_SECONDS)


class Counted:
    """Counts requests in the audit log of a server."""

    def __init__(self, openbao: VaultServer, show: Callable[[str], None]) -> None:
        self._openbao = openbao
        self._show = show

    @asynccontextmanager
    async def __call__(self, what: str) -> AsyncIterator[Seen]:
        seen = Seen()
        mark, start = self._openbao.audit.mark(), time.monotonic()
        yield seen
        seen.seconds = time.monotonic() - start
        entries = self._openbao.audit.entries(after=mark)
        seen.logins = len([one for one in entries if one.is_login])
        seen.reads = len([one for one in entries if one.path.startswith("secret/data/web-")])
        self._show(
            f"{what}: {PODS} volumes of {OBJECTS} objects as {ROLES} service accounts in"
            f" {seen.seconds * 1000:.0f} ms, {seen.logins} logins, {seen.reads} reads"
        )


async def _prepare(openbao: VaultServer, server: ApiServer, node: BareNode, role: int) -> str:
    """Create role, service account, SecretProviderClass and objects; return a token."""
    name = f"web-{role}"
    await _fill(openbao, role, "first")
    paths = [_path(role, number) for number in range(OBJECTS)]
    await kubernetes_role(openbao, name, *paths, namespace=NAMESPACE, account=name)
    objects = [entry(f"object-{n}", path, "value") for n, path in enumerate(paths)]
    spec = class_spec(
        openbao, *objects, provider="vault", roleName=name, vaultAuthMountPath="kubernetes"
    )
    node.put_class(name, spec)
    namespace = f"--namespace={NAMESPACE}"
    await server.kubectl("create", "serviceaccount", name, namespace)
    return (await server.kubectl("create", "token", name, namespace, "--audience=vault")).strip()


async def _fill(openbao: VaultServer, role: int, value: str) -> None:
    for number in range(OBJECTS):
        await put_kv(openbao, _path(role, number), value=f"{value} {role} {number}")


def _path(role: int, number: int) -> str:
    return f"secret/data/web-{role}/object-{number}"


def _volume(node: BareNode, number: int, token: str) -> Volume:
    name = f"web-{number % ROLES}"
    tokens = {"vault": {"token": token, "expirationTimestamp": LATER}}
    context = {SERVICE_ACCOUNT: name, SERVICE_ACCOUNT_TOKENS: json.dumps(tokens)}
    return node.volume(name, pod=f"pod-{number}", context=context)


def _expected(role: int, value: str) -> dict[str, bytes]:
    return {f"object-{n}": f"{value} {role} {n}".encode() for n in range(OBJECTS)}


def _contents(volume: Volume) -> dict[str, bytes]:
    return {path: content for path, (_, content) in volume.files().items()}


def _is_new(number: int, volume: Volume) -> bool:
    return _expected(number % ROLES, "second") == _contents(volume)
