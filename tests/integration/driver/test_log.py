"""What `keyferry driver` logs of a failure: one line, with pod, class, volume, stage and object."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import grpc
import pytest

from keyferry.errors import KeyferryError, ObjectNotFoundError, SecretDataError, VaultError
from keyferry.telemetry.logs import configure_logs
from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import ScriptedProvider

ROTATION_SECONDS = 60.0


@pytest.fixture
def provider() -> ScriptedProvider:
    """A provider that does as it is reported."""
    return ScriptedProvider()


@pytest.fixture
async def driver(mount_home: Path, provider: ScriptedProvider) -> AsyncIterator[Driver]:
    """A driver that logs JSON, with a class `web`."""
    built_in = {"scripted": provider}
    async with running_driver(
        mount_home, built_in=built_in, rotation_interval=ROTATION_SECONDS
    ) as running:
        running.log.truncate(0)  # what it said as text while it started
        running.log.seek(0)
        configure_logs(as_json=True, verbosity=0, stream=running.log)
        running.write_class("web")
        yield running


def failures(driver: Driver) -> list[dict[str, object]]:
    """Every line that is an error, without its time."""
    lines = [json.loads(line) for line in driver.log.getvalue().splitlines()]
    errors = [line for line in lines if line["level"] == "error"]
    return [{key: line[key] for key in line if key != "timestamp"} for line in errors]


def named(driver: Driver) -> dict[str, object]:
    """What each line of a publish of `web` for the pod `web-0` names."""
    return {
        "pod": {"namespace": "shop", "name": "web-0"},
        "spc": {"namespace": "shop", "name": "web"},
        "targetPath": str(driver.target()),
        "volumeId": "csi-web-0",
    }


def about(error: KeyferryError, what: str) -> KeyferryError:
    """The error, about this object."""
    error.object_name = what
    return error


async def test_failed_mount_is_logged_in_one_line(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """With the object in the vault, if the error is about one."""
    provider.fails(about(ObjectNotFoundError("there is no db", "Make it."), "secret/db"))
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.publish("web")
    assert [
        {
            "level": "error",
            "caller": "grpc",
            "message": "publish failed",
            **named(driver),
            "stage": "object",
            "object": "secret/db",
            "error": "there is no db. Make it.",
        }
    ] == failures(driver)


async def test_failed_refresh_is_logged_in_one_line(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Although kubelet gets OK."""
    await driver.publish("web")
    driver.clock.now += 2 * ROTATION_SECONDS
    provider.fails(VaultError("the vault is ill"))
    await driver.publish("web")
    assert [
        {
            "level": "error",
            "caller": "publish",
            "message": "refresh failed, previous content retained",
            **named(driver),
            "provider": "scripted",
            "stage": "vault",
            "error": "the vault is ill",
        }
    ] == failures(driver)


async def test_failed_secret_sync_is_logged_in_one_line(driver: Driver) -> None:
    """It names the Secret; the pod gets an event, too."""
    entry = {
        "secretName": "cert",
        "type": "kubernetes.io/tls",
        "data": [{"objectName": "a", "key": "tls.crt"}],
    }
    driver.write_class("web", secret_objects=[entry])
    await driver.publish("web")
    (line,) = failures(driver)
    assert "" != line.pop("error")
    volume = named(driver)
    del volume["volumeId"]  # an id of the call, and this line may come long after it
    assert {
        "level": "error",
        "caller": "sync",
        "message": "failed to sync Secret with its volume",
        **volume,
        "secret": {"namespace": "shop", "name": "cert"},
        "stage": SecretDataError.stage.value,
    } == line


async def test_defect_is_logged_in_one_line(driver: Driver, provider: ScriptedProvider) -> None:
    """With the place in the code, without the message of the exception."""
    provider.fails(ZeroDivisionError("canary-value"))
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.publish("web")
    (line,) = failures(driver)
    assert named(driver).items() <= line.items()
    assert "publish failed: internal error (ZeroDivisionError)" in str(line["error"])
    assert "provider.py" in str(line["where"])
    assert "canary" not in driver.log.getvalue()


async def test_failed_unpublish_is_logged_in_one_line(driver: Driver) -> None:
    """It names the volume; the request contains no pod."""
    driver.target().parent.mkdir(parents=True)
    driver.target().write_text("a file")
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.unpublish()
    (line,) = failures(driver)
    assert ("unpublish failed", "volume") == (line["message"], line["stage"])
    assert (str(driver.target()), "csi-web-0") == (line["targetPath"], line["volumeId"])
    assert "pod" not in line


async def test_log_fields_of_a_call_do_not_leak_into_the_next(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Two failures, each with its own pod."""
    provider.fails(VaultError("no"))
    for pod in ("web-0", "web-1"):
        with pytest.raises(grpc.aio.AioRpcError):
            await driver.publish("web", pod)
    assert ["csi-web-0", "csi-web-1"] == [line["volumeId"] for line in failures(driver)]
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.call_raw("Node/NodeStageVolume")
    assert "pod" not in failures(driver)[-1]


async def test_empty_log_fields_are_omitted(driver: Driver) -> None:
    """Only the stage and the error remain."""
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.call_raw("Node/NodePublishVolume")
    (line,) = failures(driver)
    assert ["level", "caller", "message", "stage", "error"] == list(line)


async def test_log_line_as_text(driver: Driver, provider: ScriptedProvider) -> None:
    """It begins with E, as log tools expect; objects are formatted as by kubectl."""
    text = StringIO()
    configure_logs(as_json=False, verbosity=0, stream=text)
    provider.fails(VaultError("the vault is ill"))
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.publish("web")
    (line,) = [each for each in text.getvalue().splitlines() if each.startswith("E")]
    shape = (
        r'E\S+ \S+ +\d+ grpc\] "publish failed" pod="shop/web-0" spc="shop/web" targetPath="[^"]+"'
        r' volumeId="csi-web-0" stage="vault" error="the vault is ill"'
    )
    assert re.fullmatch(shape, line)
