"""A real OpenBao server as a process of this machine: with TLS, an audit log, unsealed.

async with running_server(tmp_path) as vault:
    await vault.write("sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
    await vault.write("kv/data/db", {"data": {"password": "s3cret"}})
    ...
    assert 1 == len(vault.audit.logins())
    await vault.seal()
    await vault.unseal()

Its storage is a directory of its own (raft), so that it can be stopped and started again, and a
second server can join it as standby.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.e2e.children import Child, Children, ending_children
from tests.e2e.cluster.api_server import free_ports
from tests.e2e.cluster.certificates import Authority
from tests.e2e.cluster.waiting import eventually, must_run
from tests.e2e.vault.audit import AuditLog
from tests.e2e.vault.programs import server_programs

Document = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class Keys:
    """The keys of an initialized server.

    Attributes:
        unseal: the only unseal key share.
        root: the root token.
    """

    unseal: str
    root: str


class VaultServer:
    """One server.

    Attributes:
        address: URL of the server.
        mutual_address: URL of the listener that requires a client certificate.
        ca: PEM file of that CA, in a folder that every user may enter.
        authority: CA that signs its certificate and those of clients.
        audit: audit log.
        name: name of its node.
    """

    def __init__(
        self,
        children: Children,
        folder: Path,
        authority: Authority,
        *,
        name: str,
        host: str,
        ca: Path,
    ) -> None:
        folder.mkdir(parents=True)
        self.ca = ca
        self.name = name
        self.authority = authority
        self.audit = AuditLog(folder / "audit.log")
        self.keys = Keys("", "")
        self._children = children
        self._child: Child | None = None
        port, mutual_port, cluster_port = free_ports(3)
        self.address = f"https://{host}:{port}"
        self.mutual_address = f"https://{host}:{mutual_port}"
        self._cluster_address = f"https://127.0.0.1:{cluster_port}"
        self._config = self._write_config(folder, host, (port, mutual_port), cluster_port)
        self._tls = ssl.create_default_context(cafile=str(authority.certificate))

    @property
    def pid(self) -> int:
        """The process ID."""
        assert self._child is not None
        return self._child.pid

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment for the command line tool `bao` with the root token."""
        return {
            "BAO_ADDR": self.address,
            "BAO_CACERT": str(self.ca),
            "BAO_TOKEN": self.keys.root,
        }

    async def start(self) -> None:
        """Start the server, sealed. Call `initialise` or `unseal` next."""
        bao = str(server_programs().bao)
        child = self._child = self._children.start(
            self.name, bao, "server", f"-config={self._config}"
        )

        async def responds() -> bool:
            must_run(child)
            await self._answer("GET", "sys/seal-status")
            return True

        await eventually(responds, f"{self.name} to respond")

    async def stop(self) -> None:
        """Kill the server. Its storage remains."""
        assert self._child is not None
        self._child.send(signal.SIGKILL)
        await self._child.ends()

    async def initialise(self) -> None:
        """Create the keys of a new server, and unseal it."""
        shares = {"secret_shares": 1, "secret_threshold": 1}
        made = await self._answer("POST", "sys/init", shares)
        self.keys = Keys(made["keys_base64"][0], made["root_token"])
        await self.unseal()

    async def join(self, leader: VaultServer) -> None:
        """Join `leader` as its standby node."""
        body = {
            "leader_api_addr": leader.address,
            "leader_ca_cert": leader.ca.read_text(),
        }
        await self._answer("POST", "sys/storage/raft/join", body)
        self.keys = leader.keys
        await self._answer("POST", "sys/unseal", {"key": self.keys.unseal})

        async def is_standby() -> bool | None:
            status = await self._answer("GET", "sys/leader")
            return True if status["leader_address"] == leader.address else None

        await eventually(is_standby, f"{self.name} to join {leader.name}")

    async def seal(self) -> None:
        """Seal the server. It then responds with 503."""
        await self.write("sys/seal", {})

    async def unseal(self) -> None:
        """Unseal the server, and wait until it serves requests."""
        await self._answer("POST", "sys/unseal", {"key": self.keys.unseal})

        async def serves() -> bool:
            await self.read("sys/mounts")
            return True

        await eventually(serves, f"{self.name} to serve")

    async def read(self, path: str, *, namespace: str = "") -> Document:
        """Send a GET with the root token."""
        return await self._answer("GET", path, namespace=namespace)

    async def write(self, path: str, body: Document, *, namespace: str = "") -> Document:
        """Send a POST with the root token."""
        return await self._answer("POST", path, body, namespace=namespace)

    async def delete(self, path: str) -> None:
        """Send a DELETE with the root token."""
        await self._answer("DELETE", path)

    async def list(self, path: str) -> list[str]:
        """Send a LIST with the root token; a missing path is an empty list."""
        try:
            found = await self._answer("LIST", path)
        except AssertionError as error:
            if "404" in str(error):
                return []
            raise
        keys: list[str] = found["data"]["keys"]
        return keys

    async def leases(self, prefix: str) -> int:
        """Return the number of leases below `prefix`, such as `database/creds/app`."""
        return len(await self.list(f"sys/leases/lookup/{prefix}"))

    async def _answer(
        self, method: str, path: str, body: Document | None = None, *, namespace: str = ""
    ) -> Document:
        """Send one request and return its response.

        Raises:
            AssertionError: the response is an error; with its status and text.
        """
        headers = {"X-Vault-Token": self.keys.root} if self.keys.root else {}
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.address}/v1/{path}", data, headers, method=method)
        return await asyncio.to_thread(self._open, request)

    def _open(self, request: Request) -> Document:
        try:
            with urlopen(request, context=self._tls, timeout=30) as response:
                content = response.read()
        except HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise AssertionError(f"{request.full_url}: {error.code} {text}") from None
        except URLError as error:
            raise AssertionError(f"{request.full_url}: {error.reason}") from None
        document: Document = json.loads(content) if content else {}
        return document

    def _write_config(
        self, folder: Path, host: str, ports: tuple[int, int], cluster_port: int
    ) -> Path:
        certificate, key = self.authority.issue(
            self.name, user=self.name, addresses=(host, "127.0.0.1", "localhost")
        )
        storage = folder / "raft"
        storage.mkdir()
        audit = {"path": "file", "options": {"file_path": str(self.audit.path)}}
        listener = {
            "address": f"{host}:{ports[0]}",
            "cluster_address": f"127.0.0.1:{cluster_port}",
            "tls_cert_file": str(certificate),
            "tls_key_file": str(key),
        }
        mutual = listener | {
            "address": f"{host}:{ports[1]}",
            "cluster_address": "127.0.0.1:0",
            "tls_client_ca_file": str(self.ca),
            "tls_require_and_verify_client_cert": True,
        }
        # The shortest patience of its elections; one server has nobody to wait for.
        raft = {"path": str(storage), "node_id": self.name, "performance_multiplier": "1"}
        config = folder / "config.json"
        config.write_text(
            json.dumps(
                {
                    "storage": {"raft": raft},
                    "listener": [{"tcp": listener}, {"tcp": mutual}],
                    "api_addr": self.address,
                    "cluster_addr": self._cluster_address,
                    "audit": [{"file": {"everything": audit}}],
                }
            )
        )
        return config


@asynccontextmanager
async def running_server(
    folder: Path, *, host: str = "127.0.0.1", authority: Authority | None = None
) -> AsyncIterator[VaultServer]:
    """Run an empty unsealed server, which is deleted when the block ends.

    Args:
        folder: absent or empty directory for all its files.
        host: address on which it listens.
        authority: signs its certificate; None for one of its own.
    """
    authority = authority or Authority(folder / "pki")
    with public_copy(authority.certificate) as ca:
        async with ending_children(folder / "logs") as children:
            server = VaultServer(
                children, folder / "bao-1", authority, name="bao-1", host=host, ca=ca
            )
            await server.start()
            await server.initialise()
            yield server


@asynccontextmanager
async def running_pair(folder: Path) -> AsyncIterator[tuple[VaultServer, VaultServer]]:
    """Run an active server and its standby node, which forwards requests."""
    authority = Authority(folder / "pki")
    with public_copy(authority.certificate) as ca:
        async with ending_children(folder / "logs") as children:
            active, standby = (
                VaultServer(children, folder / name, authority, name=name, host="127.0.0.1", ca=ca)
                for name in ("bao-1", "bao-2")
            )
            await active.start()
            await active.initialise()
            await standby.start()
            await standby.join(active)
            yield active, standby


@contextmanager
def public_copy(file: Path) -> Iterator[Path]:
    """Copy a file to a folder of its own that every user may enter.

    The driver reads it as an unprivileged user, who may not enter the folders of pytest.
    """
    with TemporaryDirectory(prefix="keyferry-ca-") as folder:
        Path(folder).chmod(0o755)
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        copy.chmod(0o644)
        yield copy
