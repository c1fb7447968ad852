"""HmacKey: when the Secret is read, and which key is used if it is unavailable."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyferry.errors import ConnectionFailedError, KeyferryError, PlatformError
from keyferry.providers.vault.hmac_key import HmacKey, load_or_create_key
from keyferry.resilience.call_context import Purpose
from tests.fakes.clock import AutojumpClock
from tests.fakes.log import captured_log
from tests.fakes.virtual_time import LoopClock, virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

F, R = Purpose.FIRST, Purpose.REFRESH
REFUSED = PlatformError("Secret x: refused", "Give the right.")
UNAVAILABLE = ConnectionFailedError("nobody listens")


class FakeKeySource:
    """Implements `HmacKeySource` with a key that a test changes.

    Attributes:
        now: the key, or the error to raise.
        delay: seconds until the response.
        reads: number of calls of `load`.
    """

    def __init__(self, now: bytes | KeyferryError) -> None:
        self.now = now
        self.delay = 0.0
        self.reads = 0

    async def load(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(self.delay)
        if isinstance(self.now, KeyferryError):
            raise self.now
        return self.now


def _node_key(path: Path) -> Callable[[], Awaitable[bytes]]:
    return partial(asyncio.to_thread, load_or_create_key, path)


async def mounted(key: HmacKey, purpose: Purpose = F) -> bytes:
    """Return the key that a mount gets."""
    key.refresh_in_background(purpose)
    return await key.get()


def cluster_key(source: FakeKeySource) -> HmacKey:
    """Return the key of a provider in a cluster, with the time of the running loop."""
    return HmacKey("vault", source, None, LoopClock())


@virtual_time
async def test_pods_that_start_together_read_the_secret_once() -> None:
    """All of them wait for that read."""
    source = FakeKeySource(b"k")
    source.delay = 0.5
    key = cluster_key(source)
    assert [b"k"] * 110 == await asyncio.gather(*(mounted(key) for _ in range(110)))
    assert 1 == source.reads


@virtual_time
async def test_changed_key_is_used_for_the_next_first_mount() -> None:
    """A refresh uses a key that is up to a minute old."""
    source = FakeKeySource(b"old")
    key = cluster_key(source)
    with captured_log() as log:
        assert b"old" == await mounted(key)
        source.now = b"new"
        await asyncio.sleep(1)
        assert b"old" == await mounted(key, R)
        assert b"new" == await mounted(key)
        source.now = b"newest"
        await asyncio.sleep(60)
        assert b"newest" == await mounted(key, R)
    assert "" == log.getvalue()
    assert 3 == source.reads


@pytest.mark.parametrize(("error", "seconds"), [(REFUSED, 300), (UNAVAILABLE, 30)])
@virtual_time
async def test_node_key_is_used_while_the_secret_is_unavailable(
    error: KeyferryError, seconds: float
) -> None:
    """The Secret is read rarely, and the problem is logged once."""
    source = FakeKeySource(error)
    key = cluster_key(source)
    with captured_log() as log:
        own = await mounted(key)
        assert 32 == len(own)
        await asyncio.sleep(seconds - 1)
        assert {own} == {await mounted(key), await mounted(key, R)}
        assert 1 == source.reads
        await asyncio.sleep(1)
        assert own == await mounted(key)
        source.now = b"k"
        await asyncio.sleep(seconds)
        assert b"k" == await mounted(key)
    assert 3 == source.reads
    assert 1 == log.getvalue().count("use the HMAC key of this node")
    assert error.problem in log.getvalue()


@pytest.mark.parametrize("error", [REFUSED, UNAVAILABLE])
@virtual_time
async def test_last_key_is_used_after_the_secret_becomes_unavailable(
    error: KeyferryError,
) -> None:
    """A revoked permission or an API outage does not rotate the key."""
    source = FakeKeySource(b"k")
    key = cluster_key(source)
    with captured_log() as log:
        assert b"k" == await mounted(key)
        source.now = error
        await asyncio.sleep(3600)
        assert b"k" == await mounted(key)
    assert "the last HMAC key" in log.getvalue()


@virtual_time
async def test_mount_does_not_wait_for_a_hanging_api() -> None:
    """The first mount waits for the timeout, later ones do not wait."""
    source = FakeKeySource(b"k")
    source.delay = 3600
    key, loop = cluster_key(source), asyncio.get_running_loop()
    with captured_log() as log:
        own = await mounted(key)
        assert 2 == loop.time()
        assert own == await mounted(key)
        assert 2 == loop.time()
        await asyncio.sleep(8)
        assert own == await mounted(key)
        assert 1 == source.reads
        await asyncio.sleep(30)
        assert own == await mounted(key)
        assert 2 == source.reads
        await key.close()
    assert 1 == log.getvalue().count("did not respond in time")


@virtual_time
async def test_a_slow_load_goes_on_for_the_next_mounts() -> None:
    """A mount that has waited long enough uses the key of the node."""
    source = FakeKeySource(b"k")
    source.delay = 3
    key, loop = cluster_key(source), asyncio.get_running_loop()
    with captured_log() as log:
        assert b"k" != await mounted(key)
        assert 2 == loop.time()
        await asyncio.sleep(1)
        assert b"k" == await mounted(key)
    assert 3 == loop.time()
    assert 1 == source.reads
    assert 1 == log.getvalue().count("did not respond in time")


@virtual_time
async def test_cancelled_mount_does_not_cancel_the_load_of_others() -> None:
    """Closing the provider cancels the load."""
    source = FakeKeySource(b"k")
    source.delay = 1
    key, loop = cluster_key(source), asyncio.get_running_loop()
    first = asyncio.create_task(mounted(key))
    second = asyncio.create_task(mounted(key))
    await asyncio.sleep(0.1)
    first.cancel()
    assert b"k" == await second
    await asyncio.sleep(1)
    key.refresh_in_background(F)
    before = loop.time()
    await key.close()
    assert before == loop.time()
    assert b"k" == await key.get()


async def test_node_key_survives_a_restart(tmp_path: Path) -> None:
    """Without a cluster nothing is logged."""
    path = tmp_path / "vault-hmac.key"
    with captured_log() as log:
        keys = [HmacKey("vault", None, _node_key(path), AutojumpClock()) for _ in range(2)]
        found = [await mounted(key) for key in keys]
    assert [path.read_bytes()] * 2 == found
    assert "" == log.getvalue()


async def test_mount_succeeds_with_an_unusable_key_file(tmp_path: Path) -> None:
    """A key of the process is used, and the reason is logged once."""
    path = tmp_path / "vault-hmac.key"
    path.symlink_to("elsewhere")
    key = HmacKey("vault", None, _node_key(path), AutojumpClock())
    with captured_log() as log:
        found = await asyncio.gather(*(mounted(key) for _ in range(5)))
    assert 1 == len(set(found))
    assert 1 == log.getvalue().count("it is a symbolic link")
