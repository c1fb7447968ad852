"""Background tasks: a failure is logged, and the end of the stack cancels them."""

from __future__ import annotations

import ast
import asyncio
import gc
import weakref
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from keyferry.aio.tasks import (
    gather_or_cancel,
    map_concurrently,
    shielded,
    spawn,
    spawn_until_exit,
)
from keyferry.aio.tenant import current_tenant, working_for
from keyferry.telemetry.logs import current_log_context, log_context
from tests.fakes.log import captured_log

SOURCE = Path(__file__).parents[3] / "src" / "keyferry"
INHERITS_CONTEXT = {
    "doctor/probe.py": "one check of a diagnosis, which waits for it",
    "kubernetes/api/streams.py": "the input of a command, which ends with the command",
    "aio/single_flight.py": "the call of the first caller",
    "aio/tasks.py": "ends with its caller, or is `spawn`",
    "aio/tenant_threads.py": "the call of one tenant",
    "aio/work_queue.py": "workers begin with the process; timers only sleep",
    "cli/cluster/port_forward.py": "a command has one context",
    "cli/local/progress.py": "a command has one context",
    "cli/local/signals.py": "a command has one context",
    "driver/registration.py": "begins with the process",
    "driver/rotation/rotator.py": "one refresh, which sets a context of its own",
    "driver/secrets/controller.py": "begins with the process",
    "isolation/channel.py": "begins with a process; a call sets a context of its own",
    "isolation/isolated_providers.py": "waits for a connection",
    "kubernetes/api/syncs/leader_election.py": "begins with the process",
    "net/connection_pool.py": "closes connections",
    "providers/azure/auth/token_cache.py": "one token request, for its first caller",
    "providers/vault/http/tls.py": "closes connections",
    "providers/vault/leases/manager.py": "renews or revokes leases once",
    "resilience/limits/permit_scheduler.py": "a timer, which logs nothing",
    "resilience/loading.py": "one load, for its first caller",
    "sync_controller/daemon.py": "begins with the process",
    "status_page/scraping.py": "ends with its caller",
    "status_page/server.py": "ends with its caller",
}
"""Modules whose tasks inherit the context of the caller, and why that is right."""


async def _fail() -> None:
    raise ValueError("a-secret-value")


async def test_a_failed_task_is_logged_without_the_text_of_its_exception() -> None:
    with captured_log() as log:
        task = spawn(_fail(), name="rotation")
        await asyncio.wait([task])
    assert "task stopped: internal error" in log.getvalue()
    assert "rotation" in log.getvalue()
    assert "ValueError" in log.getvalue()
    assert "a-secret-value" not in log.getvalue()


async def test_spawned_task_inherits_no_log_context_and_no_tenant() -> None:
    """It may outlive the call that started it."""
    found = []

    async def work() -> None:
        found.append((current_log_context(), current_tenant()))

    with log_context(pod="shop/web-0"), working_for("shop"):
        await spawn(work(), name="watch")
    assert [({}, "")] == found


def test_only_tasks_of_a_call_or_of_the_start_inherit_a_context() -> None:
    """Everything else is started by `spawn`, or with a context of its own."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"create_task", "ensure_future"}
                and "context" not in {keyword.arg for keyword in node.keywords}
            ):
                found.add(str(path.relative_to(SOURCE)))
    assert set(INHERITS_CONTEXT) == found


async def test_tasks_of_a_stack_are_cancelled_with_it() -> None:
    cancelled = asyncio.Event()

    async def wait_forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with captured_log() as log:
        async with AsyncExitStack() as stack:
            spawn_until_exit(stack, wait_forever(), name="rotation")
            await asyncio.sleep(0)
    assert cancelled.is_set()
    assert "" == log.getvalue()


async def test_results_of_a_limited_map_are_in_order_and_few_run_at_once() -> None:
    """No more than the limit, however many items there are."""
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return item * 2

    assert [item * 2 for item in range(50)] == await map_concurrently(work, range(50), limit=7)
    assert 7 == most
    assert [] == await map_concurrently(work, [], limit=7)


async def test_failure_of_a_limited_map_cancels_the_rest() -> None:
    """Items that have not begun are never begun."""
    begun = []

    async def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("1")
        await asyncio.sleep(60)

    with pytest.raises(ValueError, match="1"):
        await map_concurrently(work, range(10), limit=3)
    assert [0, 1, 2] == begun


async def test_error_of_gathered_work_is_freed_without_the_garbage_collector() -> None:
    """Its frames may hold megabytes."""
    held: list[weakref.ref[Exception]] = []

    class LargeError(ValueError):
        """Unlike a `ValueError`, it can be referred to weakly."""

    async def fail() -> None:
        error = LargeError()
        held.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        with suppress(ValueError):
            await gather_or_cancel(fail(), asyncio.sleep(3600))
        for _ in range(5):
            await asyncio.sleep(0)
        assert [None] == [reference() for reference in held]
    finally:
        gc.enable()


async def test_shielded_work_continues_without_its_caller() -> None:
    go_on = asyncio.Event()

    async def work() -> str:
        await go_on.wait()
        return "done"

    task = asyncio.create_task(work())
    caller = asyncio.create_task(shielded(task))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    assert "done" == await shielded(task)


async def test_error_of_shielded_work_without_a_caller_is_not_logged() -> None:
    """Since Python 3.14, `asyncio.shield` logs it."""
    logged = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    go_on = asyncio.Event()

    async def fail_later() -> None:
        await go_on.wait()
        await _fail()

    task = asyncio.create_task(fail_later())
    caller = asyncio.create_task(shielded(task))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    go_on.set()
    await asyncio.wait([task])
    del task, caller
    gc.collect()
    assert [] == logged


async def test_error_of_shielded_work_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="a-secret-value"):
        await shielded(asyncio.create_task(_fail()))
