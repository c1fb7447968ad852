"""Both whole stacks end the same under the loads of bench/, not only faster or slower."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
import pytest_asyncio

from tests.compat.cases import Case, kubernetes_secret, secret
from tests.compat.comparison import Comparison, SideBySide
from tests.compat.secret_table import ON_ALL_SECRETS
from tests.compat.stacks import ALL_KEYFERRY, ALL_UPSTREAM, Stack
from tests.compat.vault_contents import APP_SECRET, LOAD_VAULT, TENANT
from tests.e2e.cluster.waiting import eventually
from tests.fakes.devvault import DevVault
from tests.fakes.mounts import mounted_below

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

PODS = 40
OBJECTS = [f"load-{number}" for number in range(50)]
APPS = [f"22222222-0000-4000-8000-1000000000{number:02}" for number in range(10)]
KUBELET_PAUSE_SECONDS = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whole(compared: Comparison) -> AsyncIterator[SideBySide]:
    """The two stacks, fifty objects, and ten applications that may read them."""
    fill(compared.vault, OBJECTS, "first")
    for app in APPS:
        compared.vault.add_app(app, tenant=TENANT, secret=APP_SECRET)
        compared.vault.grant(LOAD_VAULT, app, "get", "list")
    yield compared.of(ALL_UPSTREAM, ALL_KEYFERRY)
    compared.vault.tune()


def fill(vault: DevVault, names: Iterable[str], value: str) -> None:
    """Give each of these secrets a new version."""
    for name in names:
        vault.set_secret(LOAD_VAULT, name, f"{value} {name}")


def load_case(name: str, objects: Sequence[str], *, app: int = 0, mirrored: bool = False) -> Case:
    """A pod that reads these objects as one of the applications."""
    return Case(
        name,
        [secret(one) for one in objects],
        vault={"keyvaultName": LOAD_VAULT, "tenantID": TENANT},
        secrets={"clientid": APPS[app], "clientsecret": APP_SECRET},
        secret_objects=[kubernetes_secret(name, {"key": objects[0]})] if mirrored else (),
    )


def assert_same(whole: SideBySide, some: Sequence[Case], value: str) -> None:
    """Files, modes, versions, statuses and Secrets equal those of upstream and contain `value`."""
    for case in some:
        expected = ON_ALL_SECRETS.change(whole.outcomes[case.name, ALL_UPSTREAM])
        assert [] == expected.differences(whole.outcomes[case.name, ALL_KEYFERRY]), case.name
        assert expected.refusal is None
        assert expected.files
        for path, (mode, content) in expected.files.items():
            assert (0o644, f"{value} {path}".encode()) == (mode, content)


async def test_a_node_of_ten_identities_ends_the_same(
    compared: Comparison, whole: SideBySide
) -> None:
    """Forty pods of ten objects start at once; all objects change, and all are published again."""
    names = OBJECTS[:10]
    pods = [
        load_case(f"node-{pod}", names, app=pod % len(APPS), mirrored=pod % 8 == 0)
        for pod in range(PODS)
    ]
    await whole.prepare(pods)
    await whole.play_at_once(pods)
    assert_same(whole, pods, "first")
    fill(compared.vault, names, "second")

    async def all_are_new() -> bool:
        await whole.play_at_once(pods)
        assert_same(whole, pods, "second")
        return True

    await eventually(all_are_new, "the second versions")
    await unpublish(whole, pods)


async def test_mounts_of_many_objects_end_the_same(compared: Comparison, whole: SideBySide) -> None:
    """One, five, twenty and forty objects, and 5 MB of them, more than a gRPC message may have."""
    some = [load_case(f"count-{count}", OBJECTS[10 : 10 + count]) for count in (1, 5, 20, 40)]
    await whole.play(some)
    assert_same(whole, some, "first")
    large = [f"big-{number}" for number in range(200)]
    fill(compared.vault, large, "x" * 25_000)
    case = load_case("big", large)
    await whole.play([case])
    assert_same(whole, [case], "x" * 25_000)
    await unpublish(whole, [*some, case])


async def test_a_throttled_vault_ends_the_same(compared: Comparison, whole: SideBySide) -> None:
    """Kubelet tries again until all are mounted, and they have what they would have had."""
    pods = [load_case(f"slow-{pod}", OBJECTS[20:25], app=pod % len(APPS)) for pod in range(20)]
    await whole.prepare(pods)
    compared.vault.tune(throttle_per_second=25)
    for stack in whole.stacks.values():
        await asyncio.gather(*(publish_as_kubelet(whole, case, stack) for case in pods))
    compared.vault.tune()
    await whole.play_at_once(pods)
    assert_same(whole, pods, "first")
    await unpublish(whole, pods)


async def publish_as_kubelet(whole: SideBySide, case: Case, stack: Stack) -> None:
    """Until it succeeds."""

    async def mounted() -> bool | None:
        return True if await whole.publish(case.name, stack) is None else None

    await eventually(mounted, f"{case.name} in {stack.pairing.name}", pause=KUBELET_PAUSE_SECONDS)


async def test_pods_that_come_and_go_leave_nothing(whole: SideBySide) -> None:
    """Ten places, ten pods one after the other in each; the last ones end the same."""
    pods = [load_case(f"churn-{place}", OBJECTS[30:32]) for place in range(10)]
    await whole.prepare(pods)
    for _ in range(9):
        for stack in whole.stacks.values():
            calls = (whole.publish(case.name, stack) for case in pods)
            assert [None] * len(pods) == await asyncio.gather(*calls)
        await unpublish(whole, pods)
    await whole.play_at_once(pods)
    assert_same(whole, pods, "first")
    await unpublish(whole, pods)


async def unpublish(whole: SideBySide, some: Sequence[Case]) -> None:
    """Unpublish all volumes of a stack concurrently; nothing is left of them."""
    for stack in whole.stacks.values():
        volumes = [whole.volumes[case.name, stack.pairing] for case in some]
        await asyncio.gather(*(stack.unpublish(volume) for volume in volumes))
        folders = [volume.path.parent for volume in volumes]
        assert [] == [found for folder in folders for found in mounted_below(folder)]
        assert [] == [folder for folder in folders if list(folder.iterdir())]
