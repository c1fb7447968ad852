"""Volumes of Keyferry's Vault provider after the first publish, in each stack."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.compat.bao_comparison import BAO_PAIRINGS, BaoComparison
from tests.compat.bao_table import bao_case
from tests.compat.cases import kubernetes_secret
from tests.compat.comparison import ROTATION_SECONDS
from tests.compat.outcome import seen_in_volume
from tests.compat.secret_table import ON_ALL_SECRETS
from tests.compat.stacks import KEYFERRY_PROVIDER, Pairing, Side
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import Files
from tests.e2e.vault.classes import entry
from tests.e2e.vault.engines import put_kv

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


def files_of(compared: BaoComparison, name: str) -> dict[Pairing, Files]:
    """The files of the volume of a case, in each place."""
    return {pairing: seen_in_volume(compared.volumes[name, pairing])[0] for pairing in BAO_PAIRINGS}


async def publish_again(compared: BaoComparison, name: str) -> None:
    """Publish once more after the interval of rotation; all say that all is well."""
    await asyncio.sleep(ROTATION_SECONDS + 0.2)  # upstream uses the wall clock
    calls = (compared.publish(name, stack) for stack in compared.stacks.values())
    assert [None] * len(BAO_PAIRINGS) == await asyncio.gather(*calls)


async def test_a_refresh_reaches_files_statuses_and_secrets(bao_compared: BaoComparison) -> None:
    """By the reconciler of each driver, with the same version in each pod status."""
    compared = bao_compared
    objects = [entry(name, f"kv2/data/{name}", "value") for name in ("turning", "staying")]
    mirror = kubernetes_secret("turning", {"a": "turning", "b": "staying"})
    case = bao_case(compared.contents, "turning", objects, secret_objects=[mirror])
    for name in ("turning", "staying"):
        await put_kv(compared.bao, f"kv2/data/{name}", value="old")
    await compared.play([case])
    await put_kv(compared.bao, "kv2/data/turning", value="new")
    await publish_again(compared, "turning")

    async def all_are_new() -> bool:
        await compared.play_at_once([case])
        expected = compared.outcomes["turning", KEYFERRY_PROVIDER]
        new: Files = {"turning": (0o644, b"new"), "staying": (0o644, b"old")}
        assert new == expected.files
        assert {"a": "bmV3", "b": "b2xk"} == expected.secrets["turning"]["data"]
        for pairing in BAO_PAIRINGS:
            is_keyferry = pairing.driver is Side.KEYFERRY
            fits = ON_ALL_SECRETS.change(expected) if is_keyferry else expected
            assert [] == fits.differences(compared.outcomes["turning", pairing])
        return True

    await eventually(all_are_new, "the new version")


async def test_a_secret_that_goes_changes_nothing(bao_compared: BaoComparison) -> None:
    """The publish succeeds, because kubelet would harm the running pod otherwise."""
    compared = bao_compared
    await put_kv(compared.bao, "kv2/data/going", value="was here")
    objects = [entry("going", "kv2/data/going", "value")]
    await compared.play([bao_case(compared.contents, "going", objects)])
    await compared.bao.delete("kv2/data/going")
    await publish_again(compared, "going")
    old: Files = {"going": (0o644, b"was here")}
    assert dict.fromkeys(BAO_PAIRINGS, old) == files_of(compared, "going")


async def test_a_certificate_is_of_one_pod_and_stays(bao_compared: BaoComparison) -> None:
    """The same answer in two files, of the same shape in each place, the same after a refresh."""
    before = files_of(bao_compared, "pki")
    shapes, certificates = set(), set()
    for files in before.values():
        (_, pem), (mode, whole) = files["web.pem"], files["web.json"]
        answer = json.loads(whole)
        assert (0o600, pem.decode()) == (mode, answer["data"]["certificate"])
        shapes.add((tuple(answer), tuple(answer["data"])))
        certificates.add(pem)
    assert (1, len(BAO_PAIRINGS)) == (len(shapes), len(certificates))
    await publish_again(bao_compared, "pki")
    assert before == files_of(bao_compared, "pki")


async def test_a_database_user_is_of_one_pod_and_stays(bao_compared: BaoComparison) -> None:
    """Name and password of one lease log in, in each place; so they do after a refresh."""
    before = files_of(bao_compared, "database")
    await publish_again(bao_compared, "database")
    assert before == files_of(bao_compared, "database")
    users = set()
    for files in before.values():
        user, password = files["user"][1].decode(), files["password"][1].decode()
        users.add(await bao_compared.postgres.login(user, password))
    assert len(BAO_PAIRINGS) == len(users)
