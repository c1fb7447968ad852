"""What a volume keeps of optional objects, and what events report: a driver on a CSI socket."""

from __future__ import annotations

from pathlib import Path

from keyferry.content import MissingObject, ObjectVersion, SecretFile
from keyferry.providers.api import MountResult
from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import ScriptedProvider, mount_result
from tests.fakes.volume import read_through_links

INTERVAL = 60.0


def lacking_a(*, keeps: bool = True, default: str = "") -> MountResult:
    """The result of a mount whose object `a` is missing."""
    files = (SecretFile("a", 0o644, default.encode()),) if default else ()
    missing = MissingObject("secret/a", ("a",), "secret a is disabled", keeps)
    return MountResult((ObjectVersion("secret/a", "missing"),), files, missing=(missing,))


async def refresh(driver: Driver) -> dict[str, bytes]:
    """Let a refresh be due, and return the files after it."""
    await driver.clock.advance(2 * INTERVAL)
    return read_through_links(await driver.publish("web"))


def reported(driver: Driver) -> list[str]:
    """The events about missing objects."""
    return [text for _, reason, text in driver.events() if reason.startswith("Object")]


async def test_object_that_disappears_is_kept_until_it_is_found(mount_home: Path) -> None:
    """Also by the next process, which knows it from the pod status; each change is one event."""
    provider = ScriptedProvider()
    built_in = {"scripted": provider}
    async with running_driver(mount_home, built_in=built_in, rotation_interval=INTERVAL) as driver:
        driver.write_class("web", provider="scripted")
        await driver.publish("web")
        provider.returns(lacking_a(default="default"))
        assert {"a": b"1"} == await refresh(driver)
        assert {"a": b"1"} == await refresh(driver)
        assert {"secret/a": "v1"} == await driver.objects_in_status("web")
        lost = (
            "optional objects of spc shop/web are missing: secret/a (secret a is disabled; the"
            " volume keeps its last content)"
        )
        assert [lost] == reported(driver)
    async with running_driver(mount_home, built_in=built_in, rotation_interval=INTERVAL) as driver:
        assert {"a": b"1"} == await refresh(driver)
        assert {"secret/a": "v1"} == await driver.objects_in_status("web")
        provider.returns(mount_result({"a": "2"}, "v2"))
        assert {"a": b"2"} == await refresh(driver)
        assert [lost, "optional objects of spc shop/web were found: secret/a"] == sorted(
            set(reported(driver))
        )


async def test_object_that_disappears_is_removed(mount_home: Path) -> None:
    """All objects of a volume may be missing: it is empty, and the pod status says so."""
    provider = ScriptedProvider()
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=INTERVAL
    ) as driver:
        driver.write_class("web", provider="scripted")
        await driver.publish("web")
        provider.returns(lacking_a(keeps=False))
        assert {} == await refresh(driver)
        assert {"secret/a": "missing"} == await driver.objects_in_status("web")
        provider.returns(lacking_a(keeps=False, default="default"))
        assert {"a": b"default"} == await refresh(driver)


async def test_content_of_another_pod_is_not_kept(mount_home: Path) -> None:
    """A volume at the same path, whose pod status is of another pod."""
    provider = ScriptedProvider()
    built_in = {"scripted": provider}
    async with running_driver(mount_home, built_in=built_in) as driver:
        driver.write_class("web", provider="scripted")
        target = await driver.publish("web")
    async with running_driver(mount_home, built_in=built_in) as driver:
        provider.returns(lacking_a())
        request = driver.publish_request("web")
        request.volume_context["csi.storage.k8s.io/pod.uid"] = "another"
        await driver.send_publish(request)
        assert {} == read_through_links(target)
