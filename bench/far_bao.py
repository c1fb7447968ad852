"""A real OpenBao behind simulated network latency, for the loads of the Vault provider.

async with running_far_bao(load_vault, folder, api) as bao:
    await bao.put_generation("app-0", "app-1")
    await bao.tune(rtt_ms=20)
    ...
    {"secret": 2, "token": 1} == await bao.counts()
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.arena import PodCredentials
from bench.bare import bare_requests_seconds
from bench.load_vault import Controls
from bench.processes import ProcessUsage, process_usage
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from tests.e2e.children import Child, ending_children
from tests.e2e.cluster.api_server import ApiServer
from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.cluster.kubectl import Document
from tests.e2e.vault.audit import AuditEntry
from tests.e2e.vault.engines import enable_kv, put_kv
from tests.e2e.vault.server import VaultServer, running_server
from tests.e2e.vault.tokens import TokenSigner

AUDIENCE = "vault"
_MAX_CONCURRENT_WRITES = 8
_POLICY = """
path "secret/data/*" { capabilities = ["read"] }
path "secret/detailed-metadata/*" { capabilities = ["list"] }
"""


class FarBao:
    """The running server, its engine `secret` of KV 2, and its roles.

    Attributes:
        address: its address, behind the simulated latency.
        server: itself; what goes there is not far.
    """

    def __init__(self, server: VaultServer, relay: Child, address: str, control: str) -> None:
        self.server = server
        self.address = address
        self._relay = relay
        self._controls = Controls(control)
        self._generation = 0
        self._rotated: Sequence[str] = ()
        self._audit_mark = 0

    def value(self, name: str) -> bytes:
        """Of a secret that `rotate` has written."""
        return f"{name}/{self._generation}".encode()

    def usage(self) -> ProcessUsage:
        """Of the server and of what makes it far."""
        return process_usage([self.server.pid, self._relay.pid])

    async def tune(self, *, rtt_ms: float) -> None:
        """Set the simulated latency."""
        await self._controls.tune(rtt_ms=rtt_ms)

    async def put(self, names: Iterable[str]) -> None:
        """Have a secret of each name, whose value begins with it."""
        turn = asyncio.Semaphore(_MAX_CONCURRENT_WRITES)

        async def put(name: str) -> None:
            async with turn:
                value = self.value(name).decode()
                await put_kv(self.server, f"secret/data/{name}", value=value)

        await asyncio.gather(*map(put, names))

    def set_rotated(self, names: Sequence[str]) -> None:
        """These are the secrets that `rotate` changes."""
        self._rotated = names

    async def rotate(self) -> None:
        """Give these secrets a new version."""
        self._generation += 1
        await self.put(self._rotated)

    async def reset_counts(self) -> None:
        """Count from nothing."""
        self._audit_mark = self.server.audit.mark()

    async def counts(self) -> dict[str, int]:
        """What was asked since then, by the server's audit log: secret, list, token, other."""
        asked = await asyncio.to_thread(self.server.audit.entries, after=self._audit_mark)
        return Counter(_request_kind(one) for one in asked)

    async def bare_reads_seconds(self, names: Sequence[str]) -> float:
        """How long the same reads take without a driver, on connections that are open already."""
        requests = [
            f"GET /v1/secret/data/{name} HTTP/1.1\r\nHost: bao\r\nConnection: close\r\n"
            f"X-Vault-Token: {self.server.keys.root}\r\n\r\n"
            for name in names
        ]
        return await bare_requests_seconds(self.address, self.server.ca, requests)


def _request_kind(entry: AuditEntry) -> str:
    if entry.is_login:
        return "token"
    if entry.path.startswith("secret/"):
        return {"list": "list", "read": "secret"}.get(entry.operation, "other")
    return "other"


class Accounts:
    """The service accounts of one namespace, each with a role of its own.

    Args:
        namespace: of them.
        tokens: what kubelet would hand over for each, by its number.
    """

    def __init__(self, namespace: str, tokens: Mapping[int, str]) -> None:
        self.namespace = namespace
        self._tokens = tokens

    def credentials(self, identity: int) -> PodCredentials:
        """Of the pods of one account."""
        token = self._tokens[identity]
        return PodCredentials({SERVICE_ACCOUNT: _account(identity), SERVICE_ACCOUNT_TOKENS: token})


def _account(identity: int) -> str:
    return f"web-{identity}"


async def make_accounts(bao: FarBao, api: ApiServer, namespace: str, count: int) -> Accounts:
    """Create `n` service accounts, each with a role that may read every secret."""
    await bao.server.write("sys/policies/acl/bench", {"policy": _POLICY})
    names = {_account(identity): identity for identity in range(count)}
    documents = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}} for name in names
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    await api.kubectl("create", f"--namespace={namespace}", "--filename=-", stdin=text)
    listed = await api.kubectl.get("serviceaccounts", f"--namespace={namespace}")
    signer = TokenSigner.of_cluster(api)
    tokens = {}
    for item in listed["items"]:
        name, uid = item["metadata"]["name"], item["metadata"]["uid"]
        if name in names:
            tokens[names[name]] = signer.kubelet_json(
                namespace, name, audience=AUDIENCE, seconds=3600, uid=uid
            )
    for name in names:
        await kubernetes_role(
            bao.server, name, namespace=namespace, account=name, policies=["bench"]
        )
    return Accounts(namespace, tokens)


def bao_spc(
    bao: FarBao, name: str, namespace: str, identity: int, secrets: Sequence[str]
) -> Document:
    """A class of these secrets, read as one of the accounts."""
    objects = [
        {"objectName": secret.replace("/", "-"), "secretPath": f"secret/data/{secret}",
         "secretKey": "value"}
        for secret in secrets
    ]  # fmt: skip
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "provider": "vault",
            "parameters": {
                "vaultAddress": bao.address,
                "vaultCACertPath": str(bao.server.ca),
                "roleName": _account(identity),
                "objects": json.dumps(objects),
            },
        },
    }


@asynccontextmanager
async def running_far_bao(load_vault: Path, folder: Path, api: ApiServer) -> AsyncIterator[FarBao]:
    """A server that trusts the cluster; stopped after the block.

    Args:
        load_vault: the program that makes it far.
        folder: takes everything.
        api: whose service accounts it knows.
    """
    async with (
        running_server(folder / "bao") as server,
        ending_children(folder / "out") as children,
    ):
        await enable_cluster_auth(server, api)
        await enable_kv(server, "secret", version=2)
        child = children.start(
            *("relay", str(load_vault), "--listen=127.0.0.1:0"),
            f"--relay-to={server.address.removeprefix('https://')}",
        )
        said = await child.says(r"listens on (\S+), control on (\S+)")
        yield FarBao(server, child, f"https://{said[1]}", said[2])
