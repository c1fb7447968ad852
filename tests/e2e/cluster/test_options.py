"""Options that Keyferry adds to SecretProviderClasses: the examples of examples/options."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.cluster.manifests import VAULT
from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.option_examples import azure_example
from tests.e2e.cluster.side_by_side import scenario

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

CANARY = "canary-e7d1"
PASSWORD = f'{CANARY} $HOME `id` # "q" \\n\nsecond line '
"""What a shell would change in many places."""


@scenario("environment")
async def test_a_container_has_variables_that_are_in_no_secret(shop: Namespace) -> None:
    """Kubelet reads them from a file in memory; etcd never has their values."""
    vault = shop.installed.vault
    values = {"db-password": PASSWORD, "api-key": CANARY[::-1], "tls": "it's binary"}
    for name, value in values.items():
        vault.set_secret(VAULT, f"environment-{name}", value)
    await shop.apply(*azure_example("environment", "environment-"))
    await shop.ready("environment-azure")
    environment = await shop.read("environment-azure", "/proc/1/environ")
    variables = dict(each.split("=", 1) for each in environment.split("\0") if each)
    assert PASSWORD == variables["DB_PASSWORD"]
    assert CANARY[::-1] == variables["PAYMENT_API_KEY"]
    assert "TLS" not in variables
    assert [] == (await shop.get("secrets"))["items"]
    control = "control-b2f0"
    await shop.kubectl("create", "secret", "generic", "control", f"--from-literal=key={control}")
    etcd = shop.installed.cluster.kubelet_root.parent / "etcd"
    assert [False, True] == await asyncio.to_thread(_stored, etcd, CANARY, control)


def _stored(folder: Path, *texts: str) -> list[bool]:
    """Return whether each text is in a file of etcd."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return [any(text.encode() in content for content in contents) for text in texts]


@scenario("file-owner")
async def test_a_container_reads_files_that_belong_to_its_user(shop: Namespace) -> None:
    """Also after a rotation, which creates new files; not those of others."""
    vault = shop.installed.vault
    for name in ("db-password", "api-key"):
        vault.set_secret(VAULT, f"file-owner-{name}", "first")
    await shop.apply(*azure_example("file-owner", "file-owner-"))
    pod, folder = "file-owner-azure", "/mnt/secrets-store"
    await shop.ready(pod)
    assert "999\n" == await shop.run(pod, "id", "-u")
    assert "first" == await shop.read(pod, f"{folder}/db-password")
    with pytest.raises(AssertionError, match="Permission denied"):
        await shop.read(pod, f"{folder}/api-key")
    assert ["400", "999:0", "440", "1000:2000"] == await _owners(shop, pod)
    vault.set_secret(VAULT, "file-owner-db-password", "second")
    await shop.reads(pod, f"{folder}/db-password", "second")
    assert ["400", "999:0", "440", "1000:2000"] == await _owners(shop, pod)


async def _owners(shop: Namespace, pod: str) -> list[str]:
    """Return the mode and the owner of both files."""
    paths = [f"/mnt/secrets-store/{name}" for name in ("db-password", "api-key")]
    return (await shop.run(pod, "stat", "-L", "-c", "%a %u:%g", *paths)).split()
