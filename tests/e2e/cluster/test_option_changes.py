"""Running pods with options of Keyferry: objects that appear, parts that change, and refreshes."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest

from tests.e2e.cluster.manifests import VAULT
from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.option_examples import azure_example
from tests.e2e.cluster.side_by_side import scenario

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

FOLDER = "/mnt/secrets-store"


@scenario("optional-objects")
async def test_optional_object_arrives_in_a_running_pod(shop: Namespace) -> None:
    """In its file and its Secret; a default is replaced. Events name what is missing and found."""
    name, vault = "optional-objects-azure", shop.installed.vault
    vault.set_secret(VAULT, "optional-objects-db-password", "s3cret")
    await shop.apply(*azure_example(name.removesuffix("-azure"), "optional-objects-"))
    await shop.ready(name)
    assert "hello" == await shop.read(name, f"{FOLDER}/greeting")
    with pytest.raises(AssertionError, match="No such file"):
        await shop.read(name, f"{FOLDER}/feature-key")
    await shop.says("ObjectMissing", "secret/optional-objects-feature-key")
    assert "missing" == (await shop.versions(name, name))["secret/optional-objects-feature-key"]
    await shop.secret_has(name, {"password": "s3cret"})
    vault.set_secret(VAULT, "optional-objects-feature-key", "on")
    vault.set_secret(VAULT, "optional-objects-greeting", "welcome")
    await shop.reads(name, f"{FOLDER}/feature-key", "on")
    await shop.reads(name, f"{FOLDER}/greeting", "welcome")
    await shop.says("ObjectFound", "secret/optional-objects-feature-key")
    await shop.secret_has(name, {"password": "s3cret", "feature": "on"})


@scenario("json-keys")
async def test_keys_of_a_value_follow_its_changes(shop: Namespace) -> None:
    """Files of single keys and the Secret change together."""
    name, vault = "json-and-yaml-keys-azure", shop.installed.vault
    orders = {"username": "shop", "password": "first", "port": 5432}
    mail = "smtp:\n  password: of-mail\n  hosts: [a.example.com, b.example.com]\n"
    vault.set_secret(VAULT, "json-keys-orders", json.dumps(orders))
    vault.set_secret(VAULT, "json-keys-mail", mail)
    await shop.apply(*azure_example(name.removesuffix("-azure"), "json-keys-"))
    await shop.ready(name)
    expected = {
        "orders/username": "shop",
        "orders/port": "5432",
        "mail": mail,
        "mail-password": "of-mail",
        "mail-host": "a.example.com",
    }
    for path, content in expected.items():
        assert content == await shop.read(name, f"{FOLDER}/{path}")
    await shop.secret_has(name, {"password": "first", "mail": "of-mail"})
    vault.set_secret(VAULT, "json-keys-orders", json.dumps({**orders, "password": "second"}))
    await shop.reads(name, f"{FOLDER}/orders/password", "second")
    await shop.secret_has(name, {"password": "second", "mail": "of-mail"})


@scenario("as-mounted")
async def test_volume_keeps_its_content_until_it_is_refreshed_on_demand(shop: Namespace) -> None:
    """Another pod of the SecretProviderClass has its own interval."""
    vault = shop.installed.vault
    vault.set_secret(VAULT, "as-mounted-db-password", "first")
    spc, kept = azure_example("rotation", "as-mounted-")
    spc["spec"]["parameters"]["rotationPollInterval"] = "0"
    rotated = copy.deepcopy(kept)
    rotated["metadata"]["name"] = "rotated"
    attributes = [pod["spec"]["volumes"][0]["csi"]["volumeAttributes"] for pod in (kept, rotated)]
    del attributes[0]["rotationPollInterval"]
    attributes[1]["rotationPollInterval"] = "1s"
    await shop.apply(spc, kept, rotated)
    await shop.ready("rotation-azure", "rotated")
    vault.set_secret(VAULT, "as-mounted-db-password", "second")
    await shop.reads("rotated", f"{FOLDER}/db-password", "second")
    await asyncio.sleep(2)  # another refresh of the pod that has an interval
    assert "first" == await shop.read("rotation-azure", f"{FOLDER}/db-password")
    await shop.kubectl("annotate", "pod", "rotation-azure", "keyferry.dev/refresh=1")
    await shop.reads("rotation-azure", f"{FOLDER}/db-password", "second")
    await shop.says("RefreshRequested", "")


@scenario("two-vaults")
async def test_volume_has_objects_of_two_vaults(shop: Namespace) -> None:
    """The IDs in the pod status name the vault."""
    vault = shop.installed.vault
    vault.set_secret(VAULT, "two-vaults-db-password", "of contoso")
    vault.set_secret("fabrikam", "two-vaults-other", "of fabrikam")
    spc, pod = azure_example("rotation", "two-vaults-")
    vault.grant("fabrikam", spc["spec"]["parameters"]["userAssignedIdentityID"])
    entry = {
        "objectName": "two-vaults-other",
        "objectType": "secret",
        "objectAlias": "other",
        "keyvaultName": "fabrikam",
    }
    parameters = spc["spec"]["parameters"]
    parameters["rotationPollInterval"] = "1s"
    parameters["objects"] += f"- {json.dumps(json.dumps(entry))}\n"
    await shop.apply(spc, pod)
    await shop.ready("rotation-azure")
    assert "of contoso" == await shop.read("rotation-azure", f"{FOLDER}/db-password")
    assert "of fabrikam" == await shop.read("rotation-azure", f"{FOLDER}/other")
    versions = await shop.versions("rotation-azure", "rotation-azure")
    assert {
        "contoso/secret/two-vaults-db-password",
        "fabrikam/secret/two-vaults-other",
    } == set(versions)


@scenario("select-objects")
async def test_selected_objects_come_and_go_in_a_running_pod(shop: Namespace) -> None:
    """By name and tags, with one list; an object is removed by the second refresh without it."""
    name, vault = "select-objects-azure", shop.installed.vault
    for each, env in (("db", "prod"), ("api", "prod"), ("staging", "test")):
        vault.set_secret(VAULT, f"select-objects-shop-{each}", each, tags={"env": env})
    spc, pod = azure_example("select-objects", "select-objects-")
    spc["spec"]["parameters"]["rotationPollInterval"] = "1s"
    await shop.apply(spc, pod)
    await shop.ready(name)
    assert ["api", "db"] == (await shop.run(name, "ls", FOLDER)).split()
    assert "db" == await shop.read(name, f"{FOLDER}/db")
    found = {"secret/select-objects-shop-api", "secret/select-objects-shop-db"}
    assert found == set(await shop.versions(name, name))

    vault.set_secret(VAULT, "select-objects-shop-new", "arrived", tags={"env": "prod"})
    await shop.reads(name, f"{FOLDER}/new", "arrived")
    vault.disable(VAULT, "select-objects-shop-db")
    await shop.says("ObjectMissing", "secret/select-objects-shop-db")
    await shop.reads(name, f"$(ls -d {FOLDER}/db 2>/dev/null || echo /dev/null)", "")
    assert ["api", "new"] == (await shop.run(name, "ls", FOLDER)).split()


@scenario("templates")
async def test_files_of_templates_follow_their_objects(shop: Namespace) -> None:
    """In one atomic change, with the mode of the template, and escaped where a filter does so."""
    name, vault = "templates-azure", shop.installed.vault
    vault.set_secret(VAULT, "templates-db-user", "shop")
    vault.set_secret(VAULT, "templates-db-password", "first/1")
    spc, pod = azure_example("templates", "templates-")
    spc["spec"]["parameters"]["rotationPollInterval"] = "1s"
    await shop.apply(spc, pod)
    await shop.ready(name)
    assert "db:5432:shop:shop:first/1\n" == await shop.read(name, f"{FOLDER}/.pgpass")
    assert "postgresql://shop:first%2F1@db/shop" == await shop.read(name, f"{FOLDER}/url")
    properties = await shop.read(name, f"{FOLDER}/application.properties")
    assert "spring.datasource.password=first/1\n" in properties
    assert "600" == (await shop.run(name, "stat", "-L", "-c", "%a", f"{FOLDER}/.pgpass")).strip()
    vault.set_secret(VAULT, "templates-db-password", "second")
    await shop.reads(name, f"{FOLDER}/url", "postgresql://shop:second@db/shop")
    assert "db:5432:shop:shop:second\n" == await shop.read(name, f"{FOLDER}/.pgpass")
    assert "second" == await shop.read(name, f"{FOLDER}/db-password")
