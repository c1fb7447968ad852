"""IsolatedProviders: the start of the worker survives the callers that asked for it."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from keyferry.errors import IdentityError
from keyferry.isolation.channel import Channel
from keyferry.isolation.isolated_providers import IsolatedProviders
from keyferry.isolation.methods import (
    MOUNT,
    REQUEST_TOKEN,
    RESTORE,
    VERSION,
    PodTokenCall,
    ProviderMount,
)
from keyferry.isolation.spawner import ChildProcess
from keyferry.providers.api import MountCall, MountResult, PodTokenRequest, ProviderVersion
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
)
from keyferry.providers.privileges import NoPrivileges


class Supervisor:
    """Starts workers that are tasks of this process, once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.started = 0
        self.workers: list[Channel] = []

    async def start(self) -> ChildProcess:
        self.started += 1
        await self.may.wait()
        own, other = socket.socketpair()
        own.setblocking(False)
        other.setblocking(False)
        channel = Channel(
            {
                RESTORE.name: (RESTORE, _restore),
                VERSION.name: (VERSION, _version),
                MOUNT.name: (MOUNT, self._mount),
            }
        )
        await channel.open(other)
        self.workers.append(channel)
        return ChildProcess(*_ended_process(own))

    async def _mount(self, argument: ProviderMount) -> MountResult:
        """Request a token for the pod that `target_path` names, as a worker could."""
        await self.request_token(argument.call.target_path)
        return MountResult(())

    async def request_token(self, pod: str) -> str:
        request = PodTokenRequest("shop", "default", pod, f"uid of {pod}", "vault")
        return await self.workers[0].call(REQUEST_TOKEN, PodTokenCall("azure", request))

    def ready(self) -> None:
        """Do nothing."""

    def ended(self, reason: str, *, at_start: bool = False) -> None:
        """Do nothing."""


def _ended_process(connection: socket.socket) -> tuple[int, socket.socket, int]:
    """Return what is known of a process that ended, which nobody can kill."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    descriptor = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    return pid, connection, descriptor


async def _restore(_: None) -> frozenset[str]:
    return frozenset({"/mount"})


async def _version(name: str) -> ProviderVersion:
    return ProviderVersion("v1alpha1", name, "1")


class Tokens(NoPrivileges):
    async def request_token(self, request: PodTokenRequest) -> str:
        return f"token of {request.pod_name}"


class NoParser:
    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture
def providers(supervisor: Supervisor) -> IsolatedProviders:
    parts: dict[str, Any] = {
        "supervisor": supervisor,
        "privileges": {"azure": Tokens()},
        "parser": NoParser(),
    }
    return IsolatedProviders(frozenset({"azure"}), **parts)


async def test_cancelled_caller_does_not_interrupt_the_start(
    providers: IsolatedProviders, supervisor: Supervisor
) -> None:
    """An unpublish cancels a publish, while other pods wait for the same worker."""
    first = asyncio.create_task(providers.version("azure"))
    second = asyncio.create_task(providers.version("azure"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    supervisor.may.set()
    assert "azure" == (await second).runtime_name
    assert frozenset({"/mount"}) == await providers.restore()
    assert 1 == supervisor.started
    await providers.close()


async def test_call_is_repeated_by_another_worker_when_one_ends(
    providers: IsolatedProviders, supervisor: Supervisor
) -> None:
    """The leases are restored again."""
    supervisor.may.set()
    restored = asyncio.get_running_loop().create_future()

    async def on_restart(targets: frozenset[str]) -> None:
        restored.set_result(targets)

    providers.on_restart(on_restart)
    assert "azure" == (await providers.version("azure")).runtime_name
    await supervisor.workers[0].close()
    assert "azure" == (await providers.version("azure")).runtime_name
    assert frozenset({"/mount"}) == await restored
    assert 2 == supervisor.started
    await providers.close()


async def test_worker_gets_tokens_only_of_pods_that_are_being_mounted(
    providers: IsolatedProviders, supervisor: Supervisor
) -> None:
    """With the right to create tokens, a worker that runs foreign code must not become any pod."""
    supervisor.may.set()
    attributes = {
        POD_NAMESPACE: "shop",
        SERVICE_ACCOUNT: "default",
        POD_NAME: "web",
        POD_UID: "uid of web",
    }
    await providers.mount("azure", MountCall(attributes, target_path="web"))
    with pytest.raises(IdentityError, match="pod shop/other"):
        await providers.mount("azure", MountCall(attributes, target_path="other"))
    with pytest.raises(IdentityError, match="pod shop/web"):
        await supervisor.request_token("web")
    await providers.close()
