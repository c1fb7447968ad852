"""Fields that have no effect: an event and a log line, and the volume is mounted nevertheless."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from keyferry.errors import ObjectNotFoundError
from keyferry.proto import csi_pb2 as csi
from tests.fakes.driver import NAMESPACE, Driver, running_driver
from tests.fakes.kube_api import KubeApiServer, class_manifest, running_api
from tests.fakes.kube_node import running_node, wait_until
from tests.fakes.provider import ScriptedProvider
from tests.integration.driver.calls import rejection

WRONG = {
    "vaultAdress": "https://vault.example.com",
    "objects": "- objectName: a\n  secretPath: kv/a\n  secretkey: password\n",
}
CLASS_WARNING = (
    "fields that have no effect: spec.parameters.vaultAdress (did you mean vaultAddress?),"
    " spec.parameters.objects[0].secretkey (did you mean secretKey?)"
)


@pytest.fixture
async def driver(mount_home: Path, provider: ScriptedProvider) -> AsyncIterator[Driver]:
    """A driver that refreshes on every call, with a scripted provider `vault`."""
    async with running_driver(
        mount_home, built_in={"vault": provider}, rotation_interval=120
    ) as running:
        running.write_class("web", provider="vault", parameters=WRONG)
        yield running


async def warnings(driver: Driver) -> list[tuple[str, str, str]]:
    """Kind and name of what an event UnknownField is about, and its message, once all are sent."""
    await wait_until(lambda: not len(driver.engine.field_reporter), "the reports")
    folder = driver.manifests / "events" / NAMESPACE
    found = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
    return sorted(
        (event["involvedObject"]["kind"], event["involvedObject"]["name"], event["message"])
        for event in found
        if (event["type"], event["reason"]) == ("Warning", "UnknownField")
    )


def logged(driver: Driver) -> list[str]:
    """The log lines about fields."""
    return [line for line in driver.log.getvalue().splitlines() if "fields without effect" in line]


async def test_class_is_reported_once_for_all_its_pods(driver: Driver) -> None:
    """An event on the SecretProviderClass, and one log line; refreshes do not repeat them."""
    for pod in ("web-0", "web-1", "web-0"):
        assert ((await driver.publish("web", pod)) / "a").exists()
        driver.clock.now += 200
    assert [("SecretProviderClass", "web", CLASS_WARNING)] == await warnings(driver)
    (line,) = logged(driver)
    assert "did you mean vaultAddress?" in line
    assert f'spc="{NAMESPACE}/web"' in line


async def test_no_publish_waits_for_a_report(driver: Driver) -> None:
    """Checking the fields takes as long as a tenth of a mount."""
    await driver.publish("web")
    assert 1 == len(driver.engine.field_reporter)
    assert [] == logged(driver)
    assert 1 == len(await warnings(driver))


async def test_changed_class_is_reported_again(driver: Driver) -> None:
    """And a right one no longer."""
    await driver.publish("web")
    driver.write_class("web", provider="vault", parameters={**WRONG, "vaultAdress": "", "x": ""})
    await driver.publish("web", "web-1")
    driver.write_class("web", provider="vault", parameters={"roleName": "x"})
    await driver.publish("web", "web-2")
    changed = CLASS_WARNING.replace(", spec", ", spec.parameters.x, spec", 1)
    assert sorted([CLASS_WARNING, changed]) == [message for _, _, message in await warnings(driver)]
    assert 2 == len(logged(driver))


async def test_class_is_reported_before_its_mount_fails(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """The misspelled field is often the reason. Retries of kubelet do not repeat it."""
    provider.fails(ObjectNotFoundError("there is no secret at kv/a"))
    for _ in range(3):
        await rejection(driver, driver.publish_request("web"))
    assert [("SecretProviderClass", "web", CLASS_WARNING)] == await warnings(driver)
    assert 1 == len(logged(driver))


async def test_unknown_fields_of_spec_are_reported_for_every_provider(
    driver: Driver, mount_home: Path
) -> None:
    """The driver itself reads them; an unknown provider's parameters are its own."""
    manifest = class_manifest("own", provider="vault", namespace=NAMESPACE)
    manifest["spec"] |= {"parameters": {"roleName": "x"}, "secretobjects": []}
    (driver.manifests / "own.yaml").write_text(yaml.safe_dump(manifest))
    await driver.publish("own")
    assert [
        (
            "SecretProviderClass",
            "own",
            "fields that have no effect: spec.secretobjects (did you mean secretObjects?)",
        )
    ] == await warnings(driver)


async def test_parameters_of_an_external_provider_are_not_judged(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """Also where it has the name of a built-in one, whose version may be another."""
    async with running_driver(mount_home, built_in={"scripted": provider}) as driver:
        driver.write_class("web", parameters=WRONG)
        await driver.publish("web")
        assert [] == await warnings(driver)


def with_volume(message: csi.NodePublishVolumeRequest, **attributes: str) -> None:
    """Add `volumeAttributes`."""
    for name, value in attributes.items():
        message.volume_context[name] = value


async def test_volume_attributes_are_reported_on_the_pod(driver: Driver) -> None:
    """They override parameters, so the same fields are known; the pod is what has to change."""
    driver.write_class("web", provider="vault", parameters={"roleName": "x"})
    message = driver.publish_request("web")
    with_volume(message, vaultNamspace="team", vaultAddress="https://v", providerName="vault")
    message.volume_context["csi.storage.k8s.io/serviceAccount.token"] = "x"
    for _ in range(3):
        await driver.send_publish(message)
        driver.clock.now += 200
    assert [
        (
            "Pod",
            "web-0",
            (
                "fields that have no effect: "
                "volumeAttributes.csi.storage.k8s.io/serviceAccount.token"
                " (did you mean csi.storage.k8s.io/serviceAccount.tokens?),"
                " volumeAttributes.providerName"
                " (spec.provider of the SecretProviderClass names the provider),"
                " volumeAttributes.vaultNamspace (did you mean vaultNamespace?)"
            ),
        )
    ] == await warnings(driver)
    assert 1 == len(logged(driver))


async def test_attributes_of_a_newer_kubelet_are_accepted(driver: Driver) -> None:
    """It may send more than is known today."""
    driver.write_class("web", provider="vault", parameters={"roleName": "x"})
    message = driver.publish_request("web")
    message.volume_context["csi.storage.k8s.io/node.name"] = "node-1"
    message.volume_context["csi.storage.k8s.io/serviceAccount.uid"] = "1"
    await driver.send_publish(message)
    assert [] == await warnings(driver)


async def test_misspelled_keys_of_the_secret_are_reported_on_the_pod(driver: Driver) -> None:
    """No value is in the event or the log."""
    driver.write_class("web", provider="vault", parameters={"roleName": "x"})
    message = driver.publish_request("web")
    for name in ("roleid", "secret_id", "note"):
        message.secrets[name] = "canary-7d1f"
    await driver.send_publish(message)
    assert [
        (
            "Pod",
            "web-0",
            "fields that have no effect: nodePublishSecretRef.roleid (did you mean role_id?)",
        )
    ] == await warnings(driver)
    assert "canary-7d1f" not in driver.log.getvalue()


async def test_missing_class_names_the_misspelled_attribute(driver: Driver) -> None:
    """Kubelet shows the message."""
    message = driver.publish_request("web")
    del message.volume_context["secretProviderClass"]
    message.volume_context["secretproviderClass"] = "web"
    error: grpc.aio.AioRpcError = await rejection(driver, message)
    assert error.details() is not None
    assert "is missing or empty; you wrote secretproviderClass." in str(error.details())
    assert "Rename secretproviderClass to secretProviderClass." in str(error.details())


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(mount_home) as running:
        manifest = class_manifest("web", provider="scripted")
        manifest["spec"]["secretobjects"] = []
        running.put("secretproviderclasses", manifest)
        yield running


async def test_two_nodes_write_one_event(mount_home: Path, api: KubeApiServer) -> None:
    """Its text is the same, so the second node finds the object of the first one."""
    for name in ("node-1", "node-2"):
        (mount_home / name).mkdir()
        async with running_node(mount_home / name, api, name, rotation_interval=120.0) as node:
            node.schedule("web-0", "web")
            await node.publish("web")
            await node.store.drain(20.0)
    (event,) = events_of(api)
    assert event["involvedObject"]["name"] == "web"


def events_of(api: KubeApiServer) -> list[dict[str, Any]]:
    return [event for event in api.all_of("events") if event["reason"] == "UnknownField"]


async def test_event_is_written_to_the_kubernetes_api(mount_home: Path, api: KubeApiServer) -> None:
    """In the namespace of the SecretProviderClass."""
    async with running_node(mount_home, api, rotation_interval=120.0) as node:
        node.schedule("web-0", "web")
        await node.publish("web")
        await wait_until(lambda: bool(events_of(api)), "the event")
        (event,) = events_of(api)
    involved = event["involvedObject"]
    assert ("SecretProviderClass", "web", NAMESPACE) == (
        involved["kind"],
        involved["name"],
        event["metadata"]["namespace"],
    )
    assert "spec.secretobjects (did you mean secretObjects?)" in event["message"]
