"""keyferry.providers.vault against a vault on a real socket: what is read, as whom, how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyferry.errors import AccessDeniedError, IdentityError
from keyferry.providers.vault_settings import VaultSettings
from keyferry.resilience.fetcher import Fetcher
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

POLICY = {"secret/data/app/*": {"read"}, "kv/*": {"read"}, "pki/issue/*": {"update"}}
LOGIN = "auth/kubernetes/login"


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    """A vault whose role `app` reads `secret/app/*` and `kv/*`."""
    async with running_vault() as running:
        running.add_role(
            "app",
            accounts=["shop/web"],
            policy=POLICY,
        )
        running.write("secret", "app/db", {"user": "sa", "password": "canary-1", "n": 10})
        yield running


@pytest.fixture
async def mounts(vault: VaultApi) -> AsyncIterator[VaultMounts]:
    async with vault_mounts(vault) as found:
        yield found


class TestReading:
    """What becomes of answers."""

    async def test_keys_of_both_versions_of_kv_arrive(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """By the path of the API, in all its spellings."""
        vault.write("kv", "old", {"password": "canary-2"})
        found = await mounts.files(
            entry("a", "secret/data/app/db", secretKey="password"),
            entry("b/c", "/v1/secret/data/app/db", secretKey="n"),
            entry("d", "v1/kv/old", secretKey="password"),
        )
        assert {"a": b"canary-1", "b/c": b"10", "d": b"canary-2"} == found

    async def test_a_version_can_be_chosen(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """By the query of the path."""
        vault.write("secret", "app/db", {"password": "canary-3"})
        found = await mounts.files(
            entry("new", "secret/data/app/db", secretKey="password"),
            entry("old", "secret/data/app/db?version=1", secretKey="password"),
        )
        assert {"new": b"canary-3", "old": b"canary-1"} == found

    async def test_a_whole_answer_is_the_same_until_something_changes(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Although each answer has another request id."""
        wanted = entry("all", "secret/data/app/db")
        first, second = [await mounts.mount(wanted) for _ in range(2)]
        assert first == second
        assert "canary-1" == json.loads(first.files[0].contents)["data"]["data"]["password"]
        vault.write("secret", "app/db", {"password": "canary-3"})
        assert first.versions != (await mounts.mount(wanted)).versions

    async def test_objects_of_one_answer_read_it_once(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """However their paths are spelled."""
        await mounts.mount(
            entry("a", "secret/data/app/db", secretKey="user"),
            entry("b", "/v1/secret/data/app/db", secretKey="password", method="GET"),
        )
        assert 1 == vault.request_count("secret/data/app/db")

    async def test_other_arguments_are_another_answer(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Two certificates of one role; upstream gives the first one to both."""
        found = await mounts.files(
            entry("a", "pki/issue/r", method="PUT", secretArgs={"common_name": "a"}),
            entry("b", "pki/issue/r", method="PUT", secretArgs={"common_name": "b"}),
        )
        names = {json.loads(text)["data"]["certificate"].split()[0] for text in found.values()}
        assert {"a", "b"} == names


class TestLogins:
    """How many, and as whom."""

    async def test_pods_of_one_service_account_share_one_login(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Kubernetes auth cannot tell them apart."""
        wanted = entry("a", "secret/data/app/db")
        pods = [FakePod(f"web-{number}") for number in range(20)]
        await asyncio.gather(*(mounts.mount(wanted, pod=pod) for pod in pods))
        await mounts.mount(wanted, serial=7)
        assert 1 == vault.request_count(LOGIN)

    async def test_service_accounts_never_share(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """Each is refused or served for itself."""
        await mounts.mount(entry("a", "secret/data/app/db"))
        with pytest.raises(Exception, match="service account name not authorized"):
            await mounts.mount(entry("a", "secret/data/app/db"), pod=FakePod(account="shop/other"))

    async def test_jwt_auth_can_tell_pods_apart(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """So each pod logs in for itself."""
        policy = {"secret/data/app/*": {"read"}}
        vault.add_role("app", mount="jwt", accounts=["shop/web"], policy=policy)
        for name in ("web-0", "web-1", "web-0"):
            await mounts.mount(
                entry("a", "secret/data/app/db"), pod=FakePod(name), vaultAuthMountPath="jwt"
            )
        assert 2 == vault.request_count("auth/jwt/login")

    async def test_a_pod_that_jwt_auth_refuses_profits_from_no_other(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Although both have one service account."""
        policy = {"secret/data/app/*": {"read"}}
        vault.add_role("app", mount="jwt", accounts=["shop/web"], policy=policy, pod="web-0")
        wanted = entry("a", "secret/data/app/db")
        where: dict[str, Any] = {"vaultAuthMountPath": "jwt"}
        for _ in range(2):
            assert await mounts.files(wanted, pod=FakePod("web-0"), **where)
            with pytest.raises(IdentityError, match="a claim of the token"):
                await mounts.files(wanted, pod=FakePod("web-1"), **where)

    async def test_a_first_login_that_is_refused_reads_once(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """A token that has just been got is as good as any other."""
        with pytest.raises(AccessDeniedError):
            await mounts.mount(entry("a", "secret/data/other"))
        assert (1, 1) == (vault.request_count(LOGIN), vault.request_count("secret/data/other"))

    async def test_a_kept_token_that_is_refused_is_replaced_once(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Because it may have been revoked, or the role may have changed."""
        await mounts.mount(entry("a", "secret/data/app/db"))
        with pytest.raises(AccessDeniedError):
            await mounts.mount(entry("a", "secret/data/other"))
        assert (2, 2) == (vault.request_count(LOGIN), vault.request_count("secret/data/other"))
        vault.tokens.clear()
        await mounts.mount(entry("a", "secret/data/app/db"))
        assert 3 == vault.request_count(LOGIN)

    async def test_a_token_is_renewed_before_it_ends(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """And where it cannot be, there is a new login."""
        for _ in range(6):
            await mounts.mount(entry("a", "secret/data/app/db"))
            vault.now += 500
        assert 1 == vault.request_count(LOGIN)
        assert 2 == vault.request_count("auth/token/renew-self")
        vault.now += 5000
        await mounts.mount(entry("a", "secret/data/app/db"))
        assert 2 == vault.request_count(LOGIN)


async def test_a_node_that_starts_asks_for_each_thing_once(vault: VaultApi) -> None:
    """110 pods of 10 roles that read 10 objects each: 10 logins, 100 reads."""
    for number in range(10):
        vault.add_role(f"app{number}", accounts=[f"shop/app{number}"], policy=POLICY)
        vault.write("secret", f"app/{number}", {"password": "x"})
    wanted = [entry(str(n), f"secret/data/app/{n}", secretKey="password") for n in range(10)]
    pods = [FakePod(f"web-{n}", f"shop/app{n % 10}") for n in range(110)]
    async with vault_mounts(vault, fetcher=Fetcher()) as mounts:
        results = await asyncio.gather(
            *(mounts.files(*wanted, pod=pod, roleName=f"app{n % 10}") for n, pod in enumerate(pods))
        )
    assert 110 * 10 == sum(len(files) for files in results)
    assert 10 == vault.request_count(LOGIN)
    assert 10 + 100 == len(vault.audit)


async def test_without_a_cache_every_mount_logs_in(vault: VaultApi) -> None:
    """As the flag asks for."""
    async with vault_mounts(vault, settings=VaultSettings(max_sessions=0)) as mounts:
        await mounts.mount(entry("a", "secret/data/app/db"))  # finds out what the mount is
        before = vault.request_count(LOGIN)
        for _ in range(3):
            await mounts.mount(entry("a", "secret/data/app/db"))
    assert before + 3 == vault.request_count(LOGIN)


async def test_more_logins_than_are_kept_only_cost_logins(vault: VaultApi) -> None:
    """The longest unused goes."""
    for number in range(3):
        vault.add_role(f"app{number}", accounts=["shop/web"], policy=POLICY)
    async with vault_mounts(vault, settings=VaultSettings(max_sessions=2)) as mounts:
        for number in (0, 1, 2, 0, 2):
            wanted = entry("a", "secret/data/app/db")
            assert await mounts.files(wanted, roleName=f"app{number}")
    assert 4 == vault.request_count(LOGIN)
