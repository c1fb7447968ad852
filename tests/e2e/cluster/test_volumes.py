"""The volumes of pods, and mounts while the vault is unavailable."""

from __future__ import annotations

import pytest

from tests.e2e.cluster.installation import Installation
from tests.e2e.cluster.manifests import MACHINE, VAULT, azure_class, pod, secret_object
from tests.e2e.cluster.namespace import Namespace, new_namespace
from tests.e2e.cluster.side_by_side import scenario
from tests.e2e.cluster.waiting import eventually
from tests.fakes.devvault import CloseMidResponse, Hang

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


@scenario("names")
async def test_secret_objects_refer_to_alias_name_and_path(shop: Namespace) -> None:
    """One SecretProviderClass, three Secrets; the variables are set at the first start."""
    vault = shop.installed.vault
    for name in ("by-alias", "by-name", "by-path"):
        vault.set_secret(VAULT, f"names-{name}", f"value of {name}")
    targets = {
        "by-alias": "THE_ALIAS",
        "by-name": "names-by-name",
        "by-path": "config/db/password",
    }
    objects = {
        "names-by-alias": "THE_ALIAS",
        "names-by-name": "hidden-behind-an-alias",
        "names-by-path": "config/db/password",
    }
    await shop.apply(
        azure_class(
            "web",
            objects,
            secret_objects=[
                secret_object(name, {"password": target}) for name, target in targets.items()
            ],
        ),
        pod("web", "web", env={"ALIAS": ("by-alias", "password"), "NAME": ("by-name", "password")}),
    )
    await shop.ready("web")
    for name in targets:
        assert {"password": f"value of {name}"} == await shop.secret_data(name)
    assert "value of by-path" == await shop.read("web", "/mnt/web/config/db/password")
    variables = await shop.run("web", "sh", "-c", 'printf "%s, %s" "$ALIAS" "$NAME"')
    assert "value of by-alias, value of by-name" == variables


@scenario("two-volumes")
async def test_a_pod_has_two_volumes(shop: Namespace) -> None:
    """Each has its own SecretProviderClass and its own pod status."""
    vault = shop.installed.vault
    for name in ("one", "two"):
        vault.set_secret(VAULT, f"two-volumes-{name}", name)
        await shop.apply(azure_class(name, {f"two-volumes-{name}": "file"}))
    await shop.apply(pod("web", "one", "two"))
    await shop.ready("web")
    for name in ("one", "two"):
        assert name == await shop.read("web", f"/mnt/{name}/file")
        assert {f"secret/two-volumes-{name}"} == set(await shop.versions("web", name))


@scenario("same-class-here")
async def test_two_namespaces_have_secret_provider_classes_of_one_name(here: Namespace) -> None:
    """Pod, Secret and pod status use the one in their own namespace."""
    vault = here.installed.vault
    async with new_namespace(here.installed, "same-class-there") as there:
        for namespace in (here, there):
            vault.set_secret(VAULT, namespace.name, f"of {namespace.name}")
            await namespace.apply(
                azure_class(
                    "web",
                    {namespace.name: "file"},
                    secret_objects=[secret_object("web", {"value": "file"})],
                ),
                pod("web", "web"),
            )
        for namespace in (here, there):
            await namespace.ready("web")
            assert f"of {namespace.name}" == await namespace.read("web", "/mnt/web/file")
            assert {"value": f"of {namespace.name}"} == await namespace.secret_data("web")
            assert {f"secret/{namespace.name}"} == set(await namespace.versions("web", "web"))


@scenario("rotation")
async def test_rotation_updates_the_file_the_secret_and_the_pod_status(shop: Namespace) -> None:
    """While the pod runs, without a restart, and with an event."""
    vault = shop.installed.vault
    first = vault.set_secret(VAULT, "rotation", "first")
    await shop.apply(
        azure_class(
            "web",
            {"rotation": "file"},
            secret_objects=[secret_object("web", {"value": "file"})],
        ),
        pod("web", "web"),
    )
    await shop.ready("web")
    assert {"secret/rotation": first} == await shop.versions("web", "web")
    second = vault.set_secret(VAULT, "rotation", "second")
    await shop.reads("web", "/mnt/web/file", "second")
    await shop.secret_has("web", {"value": "second"})

    async def recorded() -> bool | None:
        return await shop.versions("web", "web") == {"secret/rotation": second} or None

    await eventually(recorded, "the pod status to name the new version")
    await shop.says("MountRotationComplete", "file")
    (container,) = (await shop.get("pod", "web"))["status"]["containerStatuses"]
    assert 0 == container["restartCount"]


@scenario("fs-group")
async def test_a_container_without_root_reads_files_through_fs_group(shop: Namespace) -> None:
    """Kubelet sets the group of the volume to the fsGroup of the pod.

    This also holds after a rotation, which creates new files.
    """
    vault = shop.installed.vault
    vault.set_secret(VAULT, "fs-group", "first")
    secured = {"runAsUser": 1234, "runAsGroup": 1234, "runAsNonRoot": True, "fsGroup": 5678}
    document = azure_class("web", {})
    document["spec"]["parameters"]["objects"] = (
        "array: ['{objectName: fs-group, objectType: secret, filePermission: \"0440\"}']"
    )
    await shop.apply(document, pod("web", "web", securityContext=secured))
    await shop.ready("web")
    assert "1234" == (await shop.run("web", "id", "-u")).strip()
    assert "first" == await shop.read("web", "/mnt/web/fs-group")
    assert "440 5678" == await _mode_and_group(shop)
    vault.set_secret(VAULT, "fs-group", "second")
    await shop.reads("web", "/mnt/web/fs-group", "second")
    assert "440 5678" == await _mode_and_group(shop)


async def _mode_and_group(shop: Namespace) -> str:
    return (await shop.run("web", "stat", "-L", "-c", "%a %g", "/mnt/web/fs-group")).strip()


@scenario("no-class")
async def test_a_missing_secret_provider_class_is_named_in_an_event(shop: Namespace) -> None:
    """The pod starts once it exists."""
    await shop.apply(pod("web", "missing"))
    await shop.says(
        "FailedMount", "failed to get secretproviderclass no-class/missing: secretproviderclasses"
    )
    await shop.apply(azure_class("missing", {"db-password": "file"}))
    await shop.ready("web")
    assert "s3cret" == await shop.read("web", "/mnt/missing/file")


@scenario("vault-down")
async def test_a_pod_starts_once_the_vault_recovers(shop: Namespace) -> None:
    """Until then, events name the failing stage and the pod is pending."""
    vault, host = shop.installed.vault, "harbour.vault.azure.net"
    vault.set_secret("harbour", "file", "s3cret")
    vault.grant("harbour", MACHINE, "get")
    vault.add_fault(host, CloseMidResponse(), times=None)
    await shop.apply(azure_class("web", {"file": ""}, vault="harbour"), pod("web", "web"))
    await shop.says("FailedMount", host)
    status = (await shop.get("pod", "web"))["status"]
    assert "Pending" == status["phase"]
    vault.clear_faults(host)
    await shop.ready("web")
    assert "s3cret" == await shop.read("web", "/mnt/web/file")


@scenario("hanging")
async def test_a_pod_can_be_deleted_while_its_mount_hangs(shop: Namespace) -> None:
    """The deletion does not wait for the vault, and leaves nothing on the node."""
    vault, host = shop.installed.vault, "tarpit.vault.azure.net"
    vault.set_secret("tarpit", "file", "s3cret")
    vault.grant("tarpit", MACHINE, "get")
    vault.add_fault(host, Hang(), times=None)
    await shop.apply(azure_class("web", {"file": ""}, vault="tarpit"), pod("web", "web"))
    await eventually(lambda: _hangs(shop.installed), "a call that hangs")
    uid = (await shop.get("pod", "web"))["metadata"]["uid"]
    await shop.delete("pod", "web")
    await shop.volumes_removed(uid, folder_too=True)
    vault.clear_faults(host)


async def _hangs(installed: Installation) -> bool | None:
    return installed.vault.request_log.in_flight > 0 or None


@scenario("leaving")
async def test_the_volume_is_removed_with_its_pod(shop: Namespace) -> None:
    """Nothing remains mounted, and no error is logged."""
    await shop.apply(azure_class("web", {"db-password": "db"}), pod("web", "web"))
    await shop.ready("web")
    uid = (await shop.get("pod", "web"))["metadata"]["uid"]
    await shop.delete("pod", "web")
    await shop.volumes_removed(uid, folder_too=True)
    assert "failed to clean and unmount target path" not in await shop.installed.driver_log()
