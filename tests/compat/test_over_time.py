"""What becomes of a volume after its first publish, in all four stacks."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from urllib.request import urlopen

import pytest

from keyferry.records import replace
from tests.compat.cases import Case, secret
from tests.compat.comparison import ROTATION_SECONDS, Comparison
from tests.compat.outcome import STATUS_FIELDS, STATUSES, ClusterView, seen_in_volume
from tests.compat.stacks import ALL_UPSTREAM, PAIRINGS, Pairing, Side, Stack
from tests.compat.vault_contents import VAULT
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import Files
from tests.fakes.mounts import mount_options

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

BOTH = {Side.UPSTREAM: False, Side.KEYFERRY: True}


def files_of(compared: Comparison, name: str) -> dict[str, Files]:
    """The files of the volume of a case, by stack."""
    return {
        pairing.name: seen_in_volume(compared.volumes[name, pairing])[0] for pairing in PAIRINGS
    }


def everywhere(files: Files) -> dict[str, Files]:
    """The same in each stack."""
    return {pairing.name: files for pairing in PAIRINGS}


def by_driver(upstream: Files, keyferry: Files) -> dict[str, Files]:
    """The expected files of each pairing, by the side of its driver."""
    return {
        pairing.name: keyferry if pairing.driver is Side.KEYFERRY else upstream
        for pairing in PAIRINGS
    }


async def publish_again(compared: Comparison, name: str) -> None:
    """Publish once more after the interval of rotation; all say that all is well."""
    await asyncio.sleep(ROTATION_SECONDS + 0.2)  # upstream uses the wall clock
    calls = (compared.publish(name, stack) for stack in compared.stacks.values())
    assert [None] * len(PAIRINGS) == await asyncio.gather(*calls)


async def test_a_refresh_brings_the_new_version(compared: Comparison) -> None:
    """Into the files and into the pod status."""
    compared.vault.set_secret(VAULT, "rotated", "old")
    case = Case("rotated", [secret("rotated"), secret("plain")])
    await compared.play([case])
    compared.vault.set_secret(VAULT, "rotated", "new")
    await publish_again(compared, "rotated")
    new: Files = {"rotated": (0o644, b"new"), "plain": (0o644, b"s3cret")}
    assert everywhere(new) == files_of(compared, "rotated")
    version = compared.vault.data.secrets.get(VAULT, "rotated").version
    for stack in compared.stacks.values():
        view = await ClusterView.take(compared.api.kubectl, stack)
        status = view.named("SecretProviderClassPodStatus", f"rotated-{stack.pairing.name}-rotated")
        assert status is not None
        assert {"id": "secret/rotated", "version": version} in status["status"]["objects"]


async def test_keyferry_records_the_refresh_in_the_pod_status(compared: Comparison) -> None:
    """`a SecretProviderClassPodStatus`: when the last one was, and whether it went well."""
    compared.vault.set_secret(VAULT, "recorded", "old")
    await compared.play([Case("recorded", [secret("recorded")])])
    compared.vault.set_secret(VAULT, "recorded", "new")
    await publish_again(compared, "recorded")

    async def beyond(pairing: Pairing) -> set[str]:
        name = f"{STATUSES}/recorded-{pairing.name}-recorded"
        found = await compared.api.kubectl.get(name, f"--namespace={pairing.name}")
        return set(found["status"]) - set(STATUS_FIELDS)

    async def recorded() -> bool | None:
        added = [await beyond(pairing) for pairing in PAIRINGS if pairing.driver is Side.KEYFERRY]
        return True if added == [{"conditions", "lastRefreshTime"}] * len(added) else None

    await eventually(recorded, "the refresh in the pod status")
    for pairing in PAIRINGS:
        assert (pairing.driver is Side.UPSTREAM) == (await beyond(pairing) == set())


async def test_a_failed_refresh_changes_nothing(compared: Comparison) -> None:
    """The call succeeds, because kubelet would harm the running pod otherwise."""
    compared.vault.set_secret(VAULT, "short-lived", "was here")
    await compared.play([Case("short-lived", [secret("short-lived")])])
    compared.vault.delete(VAULT, "short-lived")
    await publish_again(compared, "short-lived")
    old: Files = {"short-lived": (0o644, b"was here")}
    assert everywhere(old) == files_of(compared, "short-lived")


async def test_a_class_that_changed_takes_effect_with_a_refresh(compared: Comparison) -> None:
    """Files come and go."""
    await compared.play([Case("edited", [secret("plain"), secret("letters")])])
    await apply_class(compared, Case("edited", [secret("plain"), secret("other")]))
    await publish_again(compared, "edited")
    new: Files = {"plain": (0o644, b"s3cret"), "other": (0o644, b"another s3cret")}
    assert everywhere(new) == files_of(compared, "edited")


async def test_keyferry_applies_a_change_of_only_the_mode(compared: Comparison) -> None:
    """`a change of a file's mode alone`."""
    await compared.play([Case("mode", [secret("plain")])])
    await apply_class(compared, Case("mode", [secret("plain", filePermission="0600")]))
    await publish_again(compared, "mode")
    expected = by_driver({"plain": (0o644, b"s3cret")}, {"plain": (0o600, b"s3cret")})
    assert expected == files_of(compared, "mode")


async def apply_class(compared: Comparison, case: Case) -> None:
    """Change a class in the namespace of each stack."""
    for pairing in PAIRINGS:
        changed, _ = case.manifests(pairing.name)
        await compared.api.kubectl.apply(changed, namespace=pairing.name)


async def test_failed_first_mount_leaves_nothing_with_keyferry(compared: Comparison) -> None:
    """`after a failed first mount`, and `a repeated publish, rotation on` over what it left."""
    await compared.play([Case("failing", [secret("nowhere")])])
    left = {
        pairing.driver: compared.volumes["failing", pairing].path.exists() for pairing in PAIRINGS
    }
    assert {Side.UPSTREAM: True, Side.KEYFERRY: False} == left
    refused = {}
    for pairing, stack in compared.stacks.items():
        volume = compared.volumes["failing", pairing]
        if volume.path.exists():
            os.utime(volume.path)
        refused[pairing.driver] = await compared.publish("failing", stack) is not None
        assert not os.path.ismount(volume.path)
    assert BOTH == refused


async def test_keyferry_has_no_mock_provider_hook(compared: Comparison) -> None:
    """`providerName: mock_provider` makes upstream succeed without a class or content."""
    await compared.prepare([Case("hook", [], class_name="nowhere")])
    refused = {}
    for pairing, stack in compared.stacks.items():
        volume = replace(
            compared.volumes["hook", pairing], context={"providerName": "mock_provider"}
        )
        compared.volumes["hook", pairing] = volume
        refused[pairing.driver] = await compared.publish("hook", stack) is not None
        await stack.unpublish(volume)
    assert BOTH == refused


async def test_an_unpublish_leaves_nothing(compared: Comparison) -> None:
    """And may be repeated."""
    await compared.play([Case("leaving", [secret("plain")])])
    for pairing, stack in compared.stacks.items():
        volume = compared.volumes["leaving", pairing]
        for _ in range(2):
            await stack.unpublish(volume)
            assert not volume.path.exists()


async def test_a_volume_is_a_tmpfs(compared: Comparison) -> None:
    """`tmpfs`: Keyferry mounts it nosuid, nodev and not world-writable."""
    for pairing in PAIRINGS:
        path = compared.volumes["plain", pairing].path
        options, kind, source = mount_options(path)
        is_keyferry = pairing.driver is Side.KEYFERRY
        assert ("tmpfs", "keyferry" if is_keyferry else "tmpfs") == (kind, source)
        assert ("nosuid" in options, "nodev" in options) == (is_keyferry, is_keyferry)
        assert (0o755 if is_keyferry else 0o1777) == path.stat().st_mode & 0o7777


async def test_keyferry_does_not_change_an_unmanaged_secret(compared: Comparison) -> None:
    """`a Secret that somebody else made`."""
    for pairing in PAIRINGS:
        arguments = ("taken", f"--namespace={pairing.name}", "--from-literal=a=mine")
        await compared.api.kubectl("create", "secret", "generic", *arguments)
    data = [{"key": "a", "objectName": "plain"}]
    wanted = {"secretName": "taken", "type": "Opaque", "data": data}
    case = Case("taken", [secret("plain")], secret_objects=[wanted], quiet=True)
    await compared.play([case])
    for pairing, stack in compared.stacks.items():
        is_keyferry = pairing.driver is Side.KEYFERRY
        await eventually(
            lambda stack=stack, is_keyferry=is_keyferry: took_over(
                compared, stack, not is_keyferry
            ),  # type: ignore[misc]
            f"the Secret in {pairing.name}",
        )


async def took_over(compared: Comparison, stack: Stack, expected: bool) -> bool | None:
    """Whether the Secret is as expected: the value of the vault, or an event and the old value."""
    view = await ClusterView.take(compared.api.kubectl, stack)
    found = view.named("Secret", "taken")
    assert found is not None
    value = "czNjcmV0" if expected else "bWluZQ=="
    assert (value, not expected) == (found["data"]["a"], view.complained("taken"))
    return True


async def test_many_pods_at_once_get_the_same(compared: Comparison) -> None:
    """Twenty pods of five objects, all at the same time."""
    names = [f"crowd-{number}" for number in range(5)]
    for name in names:
        compared.vault.set_secret(VAULT, name, f"value of {name}")
    crowd = [Case(f"crowd-{pod}", [secret(name) for name in names]) for pod in range(20)]
    await compared.prepare(crowd)
    expected = {name: (0o644, f"value of {name}".encode()) for name in names}
    for stack in compared.stacks.values():
        calls = (compared.publish(case.name, stack) for case in crowd)
        assert [None] * len(crowd) == await asyncio.gather(*calls)
    for case in crowd:
        assert everywhere(expected) == files_of(compared, case.name)


async def test_the_metrics_bear_the_same_names_and_labels(compared: Comparison) -> None:
    """Keyferry has every series of the upstream driver, except those of its library."""
    pages = {}
    for pairing, stack in compared.stacks.items():
        pages[pairing] = await asyncio.to_thread(driver_series, stack.driver.metrics)
    assert pages[ALL_UPSTREAM]
    for pairing, series in pages.items():
        assert {} == {
            name: labels
            for name, labels in pages[ALL_UPSTREAM].items()
            # Upstream alone counts unmounts of a busy volume, see `Stack.unpublish`.
            if name != "node_unpublish_error_total" and not labels <= series.get(name, frozenset())
        }, pairing.name


def driver_series(address: str) -> Mapping[str, frozenset[str]]:
    """The labels of each metric of a driver, by its name."""
    with urlopen(f"http://{address}/metrics") as page:
        text = page.read().decode()
    found: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"((?:node_|rotation_|sync_|k8s_secret)\w*)\{([^}]*)\}", line):
            labels = re.findall(r"(\w+)=", match[2])
            found[match[1]] = frozenset(one for one in labels if not one.startswith("otel_"))
    return found
