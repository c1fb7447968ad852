"""The parser: a process without rights, whose jobs harm nobody but their own tenant."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mounts


async def scenario(name: str, folder: Path) -> Any:
    """Run a scenario in a process of its own; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.isolation.parser_scenarios", name, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert 0 == process.returncode, errors.decode()
    return json.loads(output)


async def test_job_runs_without_rights(short_path: Path) -> None:
    """Another user, no capability, no network, no way back, and an empty folder of kubelet."""
    (short_path / "secret").write_text("x")
    found = await scenario("rights", short_path)
    assert {
        "uid": "65502",
        "groups": "[]",
        "capabilities": "0" * 32,
        "no_new_privileges": "1",
        "hidden": "[]",
        "write": "Read-only file system",
        "network": "Network is unreachable",
        "core": "(0, 0)",
    } == found


async def test_job_that_never_ends_fails_alone(tmp_path: Path) -> None:
    """A job of another tenant waits for one such job at most; the same input is not tried again."""
    found = await scenario("stuck", tmp_path)
    assert "fine" == found["victim"]
    # On a busy machine, the time limit comes before the limit of CPU time.
    assert re.search("used too much CPU time|did not answer in time", found["first"])
    assert "used too much CPU time" in found["again"]
    assert found["refused_after"] < found["waited"]


async def test_parser_that_ends_is_replaced(tmp_path: Path) -> None:
    """Whatever ends it: a crash, or a limit on memory. An error of a job does not end it."""
    crashed, too_large, refused, fine = await scenario("ended", tmp_path)
    assert "ObjectUnusableError" in crashed
    assert "ended while it ran a job" in crashed
    assert "InternalError: internal error (MemoryError) in a child process" == too_large
    assert "SecretDataError: x is not a key" == refused
    assert "fine" == fine


async def test_tenants_take_turns(tmp_path: Path) -> None:
    """A tenant with one job does not wait for all jobs of another one."""
    assert ["a", "b", "c", "a", "a", "a"] == await scenario("turns", tmp_path)


async def test_tenant_whose_job_never_ended_is_kept_apart(tmp_path: Path) -> None:
    """Its next jobs, each with another input, delay only itself."""
    found = await scenario("kept_apart", tmp_path)
    assert found["running"] >= 2, "the jobs of the other tenant did not wait for them"


async def test_slow_job_succeeds_and_delays_only_its_tenant(tmp_path: Path) -> None:
    """It is started again beside the usual jobs, with the full limit."""
    found = await scenario("slow", tmp_path)
    assert [f"shop: {number}" for number in range(10)] == found[:10]
    assert ["evil: at lower priority"] * 3 == found[10:]


async def test_values_inside_of_objects_are_extracted(tmp_path: Path) -> None:
    """Also by a process that imports the library of JMESPath only after it gave up its rights."""
    json_values, yaml_values, *broken = await scenario("extraction", tmp_path)
    assert ["", ["1.10", '["b"]', "1"], '{"b":1.10}'] == json_values
    assert json_values == yaml_values
    assert all(problem and not values for problem, values, _ in broken)
