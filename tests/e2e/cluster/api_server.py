"""A Kubernetes API without nodes: etcd and kube-apiserver, as loopback servers.

For everything that talks to the API and needs no pod to run, such as the object store:

    async with running_api_server(tmp_path) as server:
        config = KubeConfig.from_file(server.kubeconfig)   # an administrator
        await server.kubectl("create", "namespace", "shop")
        await server.stop()                                # the API is unavailable ...
        await server.start()                               # ... and comes back, with its data
        token = await server.kubectl("create", "token", "default", "--audience", "vault")

There is no controller manager: nothing creates the service account `default` of a new namespace,
collects garbage or sets finalizers, and a deleted namespace stays Terminating. The server starts in
about five seconds, needs no root, and stops after the block. The programs are built on first use,
which takes minutes (scripts/cluster/build.sh).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from tests.e2e.children import Child, Children, ending_children
from tests.e2e.cluster.certificates import Authority, write_token_keys
from tests.e2e.cluster.kubectl import Kubectl, write_kubeconfig
from tests.e2e.cluster.programs import Programs, built_programs
from tests.e2e.cluster.waiting import eventually, must_run

DOCUMENTATION_ADDRESS = "192.0.2.1"
"""The address of the API server in the endpoints of the service `kubernetes`, which may not be a
loopback address; nothing connects to it."""

ADMINISTRATORS = "system:masters"
"""The group with all permissions."""


@dataclass(frozen=True)
class ApiAddress:
    """Where the API server listens.

    Attributes:
        host: the address.
        port: 443 if pods must reach it as the service `kubernetes`.
        services: the CIDR of service addresses; the first one belongs to the API server.
        advertised: address in the endpoints of that service; not a loopback address.
    """

    host: str
    port: int
    services: str = "10.96.0.0/24"
    advertised: str = DOCUMENTATION_ADDRESS

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"


_SERVICE_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class ApiServer:
    """A running API server.

    Attributes:
        address: where it listens.
        authority: signs the certificates of the cluster; its `certificate` is the CA file.
        kubeconfig: of an administrator.
        kubectl: calls kubectl as that administrator.
        token_key: the private key of the tokens of service accounts; their issuer is the URL of
            the server.
    """

    def __init__(
        self,
        programs: Programs,
        children: Children,
        folder: Path,
        *,
        address: ApiAddress,
        etcd: str,
        flags: Sequence[str] = (),
    ) -> None:
        self.address = address
        self._more_flags = flags
        self._programs = programs
        self._children = children
        self._folder = folder
        self._child: Child | None = None
        self._etcd = etcd
        self.authority = Authority(folder / "pki")
        self.token_key, self._token_public_key = write_token_keys(folder / "pki")
        self.kubeconfig = self.kubeconfig_of("administrator", group=ADMINISTRATORS)
        self.kubectl = Kubectl(programs.of_kubernetes("kubectl"), self.kubeconfig)

    def kubeconfig_of(self, user: str, *, group: str = "") -> Path:
        """Write the kubeconfig of a user, who has no permissions without RBAC rules."""
        name = user.replace(":", "-")
        certificate, key = self.authority.issue(name, user=user, group=group)
        return write_kubeconfig(
            self._folder / f"{name}.kubeconfig",
            server=self.address.url,
            ca=self.authority.certificate,
            certificate=certificate,
            key=key,
        )

    async def start(self) -> None:
        """Start the API server and wait until it is ready."""
        self._child = self._children.start(
            "kube-apiserver", self._programs.of_kubernetes("kube-apiserver"), *self._flags()
        )

        child = self._child

        async def ready() -> bool:
            must_run(child)
            await self.kubectl("get", "--raw", "/readyz")
            return True

        await eventually(ready, "the API server to be ready")

    @property
    def pid(self) -> int:
        """The process of kube-apiserver."""
        assert self._child is not None
        return self._child.pid

    async def compact(self, resource_version: str) -> None:
        """Let etcd forget everything before a version, as it does every five minutes."""
        body = json.dumps({"revision": resource_version, "physical": True}).encode()
        request = Request(f"{self._etcd}/v3/kv/compaction", body)

        def send() -> None:
            with urlopen(request, timeout=30) as response:
                response.read()

        await asyncio.to_thread(send)

    async def stop(self) -> None:
        """Kill the API server: connections are refused until it is started again."""
        assert self._child is not None
        self._child.send(signal.SIGKILL)
        await self._child.ends()

    def _flags(self) -> list[str]:
        host = self.address.host
        certificate, key = self._issued("kube-apiserver", (host, *_SERVICE_NAMES))
        kubelet_certificate, kubelet_key = self._issued("kube-apiserver-kubelet", ())
        return [
            f"--etcd-servers={self._etcd}",
            f"--bind-address={host}",
            f"--secure-port={self.address.port}",
            f"--advertise-address={self.address.advertised}",
            f"--service-cluster-ip-range={self.address.services}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-account-issuer={self.address.url}",
            f"--service-account-jwks-uri={self.address.url}/openid/v1/jwks",
            f"--service-account-signing-key-file={self.token_key}",
            f"--service-account-key-file={self._token_public_key}",
            "--allow-privileged=true",
            "--shutdown-delay-duration=0s",
            *self._more_flags,
        ]

    def _issued(self, name: str, addresses: tuple[str, ...]) -> tuple[Path, Path]:
        return self.authority.issue(name, user=name, group=ADMINISTRATORS, addresses=addresses)


@asynccontextmanager
async def running_api_server(folder: Path, *flags: str) -> AsyncIterator[ApiServer]:
    """Run an API server with an empty database while the block runs.

    Args:
        folder: for the database, the certificates and the logs; must be absent or empty.
        flags: further flags of kube-apiserver.
    """
    programs = await built_programs()
    async with ending_children(folder / "logs") as children:
        (port,) = free_ports(1)
        address = ApiAddress("127.0.0.1", port)
        yield await start_api_server(programs, children, folder, address, flags)


async def start_api_server(
    programs: Programs,
    children: Children,
    folder: Path,
    address: ApiAddress,
    flags: Sequence[str] = (),
) -> ApiServer:
    """Start etcd and an API server as two of `children`."""
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    etcd = children.start(
        "etcd",
        programs.of_system("etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    )
    await etcd.says("ready to serve client requests|serving insecure client requests")
    server = ApiServer(programs, children, folder, address=address, etcd=client, flags=flags)
    await server.start()
    return server


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are currently free."""
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in bound]
