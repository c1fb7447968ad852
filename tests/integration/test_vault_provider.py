"""VaultProvider with a vault on a real socket: content, identities and number of requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyferry.content import FileOwner
from keyferry.errors import AccessDeniedError, IdentityError
from keyferry.providers.settings import VaultSettings
from keyferry.resilience.fetcher import Fetcher
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

POLICY = {"secret/data/app/*": {"read"}, "kv/*": {"read"}, "pki/issue/*": {"update"}}
LOGIN = "auth/kubernetes/login"


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    """Run a vault whose role `app` may read `secret/app/*` and `kv/*`."""
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
    async with vault_mounts(vault) as mounts:
        yield mounts


class TestReading:
    """Content of files."""

    async def test_keys_of_both_kv_versions_are_delivered(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """All spellings of the API path are accepted."""
        vault.write("kv", "old", {"password": "canary-2"})
        files = await mounts.files(
            entry("a", "secret/data/app/db", secretKey="password"),
            entry("b/c", "/v1/secret/data/app/db", secretKey="n"),
            entry("d", "v1/kv/old", secretKey="password"),
        )
        assert {"a": b"canary-1", "b/c": b"10", "d": b"canary-2"} == files

    async def test_files_have_the_owner_of_their_entry(self, mounts: VaultMounts) -> None:
        """The driver adds that of the SecretProviderClass."""
        result = await mounts.mount(
            entry("a", "secret/data/app/db", fileOwner="999:998"),
            entry("b", "secret/data/app/db"),
        )
        assert [FileOwner(999, 998), None] == [file.owner for file in result.files]

    async def test_version_is_selected_by_query(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """With `?version=` in the path."""
        vault.write("secret", "app/db", {"password": "canary-3"})
        files = await mounts.files(
            entry("new", "secret/data/app/db", secretKey="password"),
            entry("old", "secret/data/app/db?version=1", secretKey="password"),
        )
        assert {"new": b"canary-3", "old": b"canary-1"} == files

    async def test_whole_response_changes_only_with_its_content(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Although each response has another request ID."""
        response = entry("all", "secret/data/app/db")
        first, second = [await mounts.mount(response) for _ in range(2)]
        assert first == second
        assert "canary-1" == json.loads(first.files[0].contents)["data"]["data"]["password"]
        vault.write("secret", "app/db", {"password": "canary-3"})
        assert first.versions != (await mounts.mount(response)).versions

    async def test_objects_with_the_same_request_share_one_read(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Regardless of the spelling of their paths."""
        await mounts.mount(
            entry("a", "secret/data/app/db", secretKey="user"),
            entry("b", "/v1/secret/data/app/db", secretKey="password", method="GET"),
        )
        assert 1 == vault.request_count("secret/data/app/db")

    async def test_other_arguments_are_another_request(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Two certificates of one role. Upstream delivers the first one for both."""
        files = await mounts.files(
            entry("a", "pki/issue/r", method="PUT", secretArgs={"common_name": "a"}),
            entry("b", "pki/issue/r", method="PUT", secretArgs={"common_name": "b"}),
        )
        names = {json.loads(text)["data"]["certificate"].split()[0] for text in files.values()}
        assert {"a", "b"} == names


class TestLogins:
    """Number and identities of logins."""

    async def test_pods_of_one_service_account_share_one_login(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Kubernetes auth cannot distinguish them."""
        db = entry("a", "secret/data/app/db")
        pods = [FakePod(f"web-{number}") for number in range(20)]
        await asyncio.gather(*(mounts.mount(db, pod=pod) for pod in pods))
        await mounts.mount(db, serial=7)
        assert 1 == vault.request_count(LOGIN)

    async def test_service_accounts_never_share(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """Each is permitted or denied on its own."""
        await mounts.mount(entry("a", "secret/data/app/db"))
        with pytest.raises(Exception, match="service account name not authorized"):
            await mounts.mount(entry("a", "secret/data/app/db"), pod=FakePod(account="shop/other"))

    async def test_pods_log_in_separately_with_jwt_auth(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """JWT auth may distinguish pods."""
        policy = {"secret/data/app/*": {"read"}}
        vault.add_role("app", mount="jwt", accounts=["shop/web"], policy=policy)
        for name in ("web-0", "web-1", "web-0"):
            await mounts.mount(
                entry("a", "secret/data/app/db"), pod=FakePod(name), vaultAuthMountPath="jwt"
            )
        assert 2 == vault.request_count("auth/jwt/login")

    async def test_pod_denied_by_jwt_auth_gets_no_shared_secret(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Although another pod of the same service account may read it."""
        policy = {"secret/data/app/*": {"read"}}
        vault.add_role("app", mount="jwt", accounts=["shop/web"], policy=policy, pod="web-0")
        db = entry("a", "secret/data/app/db")
        where: dict[str, Any] = {"vaultAuthMountPath": "jwt"}
        for _ in range(2):
            assert await mounts.files(db, pod=FakePod("web-0"), **where)
            with pytest.raises(IdentityError, match="a claim of the token"):
                await mounts.files(db, pod=FakePod("web-1"), **where)

    async def test_denied_read_with_a_new_token_is_not_repeated(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Another new token would not help."""
        with pytest.raises(AccessDeniedError):
            await mounts.mount(entry("a", "secret/data/other"))
        assert (1, 1) == (vault.request_count(LOGIN), vault.request_count("secret/data/other"))

    async def test_rejected_cached_token_is_replaced_once(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """It may have been revoked, or the role may have changed."""
        await mounts.mount(entry("a", "secret/data/app/db"))
        with pytest.raises(AccessDeniedError):
            await mounts.mount(entry("a", "secret/data/other"))
        assert (2, 2) == (vault.request_count(LOGIN), vault.request_count("secret/data/other"))
        vault.tokens.clear()
        await mounts.mount(entry("a", "secret/data/app/db"))
        assert 3 == vault.request_count(LOGIN)

    async def test_token_is_renewed_before_it_expires(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """If it cannot be renewed, the identity logs in again."""
        for _ in range(6):
            await mounts.mount(entry("a", "secret/data/app/db"))
            vault.now += 500
        assert 1 == vault.request_count(LOGIN)
        assert 2 == vault.request_count("auth/token/renew-self")
        vault.now += 5000
        await mounts.mount(entry("a", "secret/data/app/db"))
        assert 2 == vault.request_count(LOGIN)


async def test_starting_node_reads_each_secret_once(vault: VaultApi) -> None:
    """110 pods with 10 roles and 10 objects each: 10 logins, 100 reads."""
    for number in range(10):
        vault.add_role(f"app{number}", accounts=[f"shop/app{number}"], policy=POLICY)
        vault.write("secret", f"app/{number}", {"password": "x"})
    entries = [entry(str(n), f"secret/data/app/{n}", secretKey="password") for n in range(10)]
    pods = [FakePod(f"web-{n}", f"shop/app{n % 10}") for n in range(110)]
    async with vault_mounts(vault, fetcher=Fetcher()) as mounts:
        results = await asyncio.gather(
            *(
                mounts.files(*entries, pod=pod, roleName=f"app{n % 10}")
                for n, pod in enumerate(pods)
            )
        )
    assert 110 * 10 == sum(len(files) for files in results)
    assert 10 == vault.request_count(LOGIN)
    assert 10 + 100 == len(vault.audit)


async def test_each_mount_logs_in_without_a_session_cache(vault: VaultApi) -> None:
    """With max_sessions 0."""
    async with vault_mounts(vault, settings=VaultSettings(max_sessions=0)) as mounts:
        await mounts.mount(entry("a", "secret/data/app/db"))  # finds out what the mount is
        before = vault.request_count(LOGIN)
        for _ in range(3):
            await mounts.mount(entry("a", "secret/data/app/db"))
    assert before + 3 == vault.request_count(LOGIN)


async def test_evicted_session_logs_in_again(vault: VaultApi) -> None:
    """The least recently used session is evicted."""
    for number in range(3):
        vault.add_role(f"app{number}", accounts=["shop/web"], policy=POLICY)
    async with vault_mounts(vault, settings=VaultSettings(max_sessions=2)) as mounts:
        for number in (0, 1, 2, 0, 2):
            db = entry("a", "secret/data/app/db")
            assert await mounts.files(db, roleName=f"app{number}")
    assert 4 == vault.request_count(LOGIN)
