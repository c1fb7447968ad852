"""IsolatedProviders: the start of the worker survives its callers, and a worker is replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.errors import IdentityError, ProviderUnreachableError
from keyferry.isolation.channel import Channel
from keyferry.isolation.child import ChildSupervisor
from keyferry.isolation.isolated_providers import IsolatedProviders
from keyferry.isolation.methods import (
    MOUNT,
    REQUEST_TOKEN,
    RESTORE,
    VERSION,
    PodTokenCall,
    ProviderMount,
)
from keyferry.isolation.spawner import ChildProcess, Role
from keyferry.providers.api import MountCall, MountResult, PodTokenRequest, ProviderVersion
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
)
from keyferry.providers.privileges import NoPrivileges
from keyferry.telemetry.metrics import Metrics


class Spawner:
    """Starts workers that are tasks of this process, once it may.

    Attributes:
        may: set when it may.
        started: the number of workers.
        workers: the other ends of their channels.
        ending: how many of the next workers end when they are asked to restore leases.
        stopped: the process of the next worker, which is stopped; None if it runs.
    """

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.started = 0
        self.workers: list[Channel] = []
        self.ending = 0
        self.stopped: int | None = None

    async def start(self, role: Role) -> ChildProcess:
        assert role is Role.PROVIDERS
        self.started += 1
        await self.may.wait()
        own, other = socket.socketpair()
        own.setblocking(False)
        other.setblocking(False)
        pid, self.stopped = self.stopped, None
        channel = Channel(
            {
                RESTORE.name: (RESTORE, self._restore if pid is None else _hang),
                VERSION.name: (VERSION, _version),
                MOUNT.name: (MOUNT, self._mount),
            }
        )
        await channel.open(other)
        self.workers.append(channel)
        if pid is None:
            return ChildProcess(*_ended_process(own))
        return ChildProcess(pid, own, os.pidfd_open(pid))

    async def _restore(self, _: None) -> frozenset[str]:
        if self.ending:
            self.ending -= 1
            await self.workers[-1].close()
        return frozenset({"/mount"})

    async def _mount(self, argument: ProviderMount) -> MountResult:
        """Request a token for the pod that `target_path` names, as a worker could."""
        await self.request_token(argument.call.target_path)
        return MountResult(())

    async def request_token(self, pod: str) -> str:
        request = PodTokenRequest("shop", "default", pod, f"uid of {pod}", "vault")
        return await self.workers[0].call(REQUEST_TOKEN, PodTokenCall("azure", request))


def _ended_process(connection: socket.socket) -> tuple[int, socket.socket, int]:
    """Return what is known of a process that ended, which nobody can kill."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    descriptor = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    return pid, connection, descriptor


async def _hang(_: None) -> frozenset[str]:
    await asyncio.Event().wait()
    raise AssertionError


async def _version(name: str) -> ProviderVersion:
    return ProviderVersion("v1alpha1", name, "1")


class Tokens(NoPrivileges):
    async def request_token(self, request: PodTokenRequest) -> str:
        return f"token of {request.pod_name}"


class NoParser:
    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


@pytest.fixture
def stopped_process() -> Iterator[int]:
    """Return the ID of a process that a signal has stopped."""
    process = subprocess.Popen(["sleep", "600"])
    process.send_signal(signal.SIGSTOP)
    yield process.pid
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


@pytest.fixture
def providers(spawner: Any) -> IsolatedProviders:
    parts: dict[str, Any] = {
        "supervisor": ChildSupervisor(spawner, Role.PROVIDERS, Metrics(), SystemClock()),
        "privileges": {"azure": Tokens()},
        "parser": NoParser(),
    }
    return IsolatedProviders(frozenset({"azure"}), **parts)


async def test_cancelled_caller_does_not_interrupt_the_start(
    providers: IsolatedProviders, spawner: Spawner
) -> None:
    """An unpublish cancels a publish, while other pods wait for the same worker."""
    first = asyncio.create_task(providers.version("azure"))
    second = asyncio.create_task(providers.version("azure"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    spawner.may.set()
    assert "azure" == (await second).runtime_name
    assert frozenset({"/mount"}) == await providers.restore()
    assert 1 == spawner.started
    await providers.close()


async def test_call_is_repeated_by_another_worker_when_one_ends(
    providers: IsolatedProviders, spawner: Spawner
) -> None:
    """The leases are restored again."""
    spawner.may.set()
    restored = asyncio.get_running_loop().create_future()

    async def on_restart(targets: frozenset[str]) -> None:
        restored.set_result(targets)

    providers.on_restart(on_restart)
    assert "azure" == (await providers.version("azure")).runtime_name
    await spawner.workers[0].close()
    assert "azure" == (await providers.version("azure")).runtime_name
    assert frozenset({"/mount"}) == await restored
    assert 2 == spawner.started
    await providers.close()


async def test_worker_that_ends_at_its_start_is_replaced(
    providers: IsolatedProviders, spawner: Spawner
) -> None:
    """Once for each call, which does not fail. A worker that always ends fails the call."""
    spawner.may.set()
    spawner.ending = 1
    assert "azure" == (await providers.version("azure")).runtime_name
    assert 2 == spawner.started
    await spawner.workers[-1].close()
    spawner.ending = 2
    with pytest.raises(ProviderUnreachableError, match="cannot start"):
        await providers.version("azure")
    assert 4 == spawner.started
    assert "azure" == (await providers.version("azure")).runtime_name
    await providers.close()


async def test_worker_that_is_stopped_at_its_start_is_replaced(
    providers: IsolatedProviders, spawner: Spawner, stopped_process: int
) -> None:
    """Otherwise each mount would wait for it for ever."""
    spawner.may.set()
    spawner.stopped = stopped_process
    async with asyncio.timeout(30):
        assert "azure" == (await providers.version("azure")).runtime_name
    assert 2 == spawner.started
    await providers.close()


async def test_worker_gets_tokens_only_of_pods_that_are_being_mounted(
    providers: IsolatedProviders, spawner: Spawner
) -> None:
    """With the right to create tokens, a worker that runs foreign code must not become any pod."""
    spawner.may.set()
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
        await spawner.request_token("web")
    await providers.close()
