"""Leases survive a restart of the process in a tmpfs directory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from keyferry.errors import VaultError
from keyferry.providers.settings import VaultSettings
from keyferry.records import replace
from tests.fakes.log import captured_log
from tests.fakes.memory_folder import tmpfs_directory
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import FakeToken
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

KEY_FILE = "identities.key"
CREDS = "database/creds/app"
USER = entry("user", CREDS, secretKey="username")
OTHER = entry("other", "database/creds/other", secretKey="username")
CERT = entry("cert", "pki/issue/r", method="PUT", secretArgs={"common_name": "a"})
WEB0, WEB1 = FakePod("web-0"), FakePod("web-1")


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    """Run a vault whose role `app` creates database users for 60 s, at most 600 s."""
    policy = {"database/creds/*": {"read"}, "pki/issue/*": {"update"}}
    async with running_vault() as running:
        running.add_role("app", accounts=["shop/web"], policy=policy)
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a directory on a tmpfs."""
    with tmpfs_directory() as path:
        yield path


@asynccontextmanager
async def process(vault: VaultApi, folder: Path, *mounted: FakePod) -> AsyncIterator[VaultMounts]:
    """Return a context manager for a process that mounts these pods' volumes.

    Nothing runs in the background, and closing writes nothing, so that it equals a kill.
    """
    settings = VaultSettings(renew_leases=False, lease_folders=(str(folder),))
    async with vault_mounts(vault, settings=settings) as mounts:
        for removed in mounts.provider.restore() - {pod.target for pod in mounted}:
            mounts.provider.volume_removed(removed)
        yield mounts


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def records(folder: Path) -> list[Path]:
    """Return the lease records in a directory."""
    return sorted(path for path in (folder / "vault").iterdir() if path.name != KEY_FILE)


async def test_refresh_after_a_restart_sends_no_request(vault: VaultApi, folder: Path) -> None:
    """Not even a login: the kind of the auth method is restored too."""
    async with process(vault, folder) as mounts:
        first = await mounts.files(USER, CERT)
    vault.audit.clear()
    async with process(vault, folder, WEB0) as mounts:
        assert first == await mounts.files(USER, CERT)
    assert [] == vault.audit


async def test_restarted_processes_renew_a_lease(vault: VaultApi, folder: Path) -> None:
    """Its record is updated at each renewal. Its token is also renewed."""
    async with process(vault, folder) as mounts:
        first = await mounts.files(USER)
    for _ in range(8):
        async with process(vault, folder, WEB0) as mounts:
            vault.now += 45
            await mounts.provider.leases.renew_due()
    assert {first["user"].decode()} == vault.database_users
    async with process(vault, folder, WEB0) as mounts:
        assert first == await mounts.files(USER)
    assert 1 == vault.request_count(CREDS)


async def test_last_unpublish_revokes_a_lease_of_an_earlier_process(
    vault: VaultApi, folder: Path
) -> None:
    """Then no record remains."""
    async with process(vault, folder) as mounts:
        await mounts.files(USER, OTHER)
    async with process(vault, folder, WEB0) as mounts:
        assert vault.database_users
        mounts.provider.volume_removed(WEB0.target)
        await until(lambda: not vault.database_users)
        await until(lambda: not records(folder))
    assert 1 == vault.request_count("auth/token/revoke-self")


async def test_lease_of_a_volume_removed_during_the_restart_is_revoked(
    vault: VaultApi, folder: Path
) -> None:
    """With its own token. The lease of another volume is kept."""
    async with process(vault, folder) as mounts:
        remaining = await mounts.files(USER, pod=WEB0)
        removed = await mounts.files(USER, pod=WEB1)
    async with process(vault, folder, WEB0):
        await until(lambda: removed["user"].decode() not in vault.database_users)
        assert {remaining["user"].decode()} == vault.database_users
        await until(lambda: 1 == len(records(folder)))


async def test_pending_revocation_is_completed_after_a_restart(
    vault: VaultApi, folder: Path
) -> None:
    """The record of the killed process shows that no volume uses the lease."""
    async with process(vault, folder) as mounts:
        await mounts.files(USER)
        others = asyncio.all_tasks()
        mounts.provider.volume_removed(WEB0.target)
        for revocation in asyncio.all_tasks() - others:
            revocation.cancel()
    assert vault.database_users
    async with process(vault, folder, WEB0):
        await until(lambda: not vault.database_users)
    assert [] == records(folder)


async def test_leases_share_their_token_after_a_restart(vault: VaultApi, folder: Path) -> None:
    """If one of two volumes is removed, its lease is revoked, but not their token."""
    policy = {"database/creds/*": {"read"}, "sys/leases/revoke": {"update"}}
    vault.add_role("jwt", mount="jwt", accounts=["shop/web"], policy=policy)
    where: dict[str, Any] = {"vaultAuthMountPath": "jwt", "roleName": "jwt"}
    second = FakePod("second-volume").target
    async with process(vault, folder) as mounts:
        first = await mounts.files(USER, **where)
        call = replace(mounts.call(OTHER, **where), target_path=second)
        await mounts.provider.mount(call)
        assert 1 == vault.request_count("auth/jwt/login")
    async with process(vault, folder, WEB0):
        await until(lambda: {first["user"].decode()} == vault.database_users)
    assert 0 == vault.request_count("auth/token/revoke-self")


async def test_kind_of_auth_method_is_restored(vault: VaultApi, folder: Path) -> None:
    """Pods that start after the restart share one login, as before."""
    vault.write("secret", "app/db", {"password": "x"})
    vault.roles["kubernetes", "app"].policy = {
        "database/creds/*": {"read"},
        "secret/data/app/*": {"read"},
    }
    async with process(vault, folder) as mounts:
        await mounts.files(USER)
    before = vault.request_count("auth/kubernetes/login")
    async with process(vault, folder, WEB0) as mounts:
        wanted = entry("db", "secret/data/app/db")
        await asyncio.gather(*(mounts.files(wanted, pod=FakePod(f"new-{n}")) for n in range(5)))
    assert before + 1 == vault.request_count("auth/kubernetes/login")


@pytest.mark.parametrize(
    ("method", "credential"),
    [
        ("approle", {"role_id": "role-1", "secret_id": "canary-secret-id"}),
        ("token", {"token": "canary-own-token"}),
    ],
)
async def test_credential_is_recognized_by_its_digest(
    vault: VaultApi, folder: Path, method: str, credential: dict[str, str]
) -> None:
    """The key of the digest is in the directory. Another credential is another identity."""
    policy = {"database/creds/*": {"read"}}
    vault.add_role("r", mount="approle", policy=policy, secret=("role-1", "canary-secret-id"))
    vault.tokens["canary-own-token"] = FakeToken(policy, 0, float("inf"), False)
    parameters: dict[str, Any] = {"vaultAuthMethod": method, "roleName": "", "secrets": credential}
    async with process(vault, folder) as mounts:
        first = await mounts.files(USER, **parameters)
    if method == "approle":
        (record,) = records(folder)
        assert b"canary-secret-id" not in record.read_bytes()
        plain = hashlib.sha256(b"canary-secret-id").hexdigest()
        assert plain.encode() not in record.read_bytes()
    assert 0o600 == (folder / "vault" / KEY_FILE).stat().st_mode & 0o777
    async with process(vault, folder, WEB0) as mounts:
        assert first == await mounts.files(USER, **parameters)
        assert 1 == vault.request_count(CREDS)
        other = dict.fromkeys(credential, "canary-other")
        with pytest.raises(VaultError):
            await mounts.files(USER, **{**parameters, "secrets": other})


async def test_damaged_hasher_key_is_replaced(vault: VaultApi, folder: Path) -> None:
    """Its leases are not found any more: new secrets replace them, and they are revoked."""
    async with process(vault, folder) as mounts:
        await mounts.files(USER)
    (folder / "vault" / KEY_FILE).write_bytes(b"short")
    async with process(vault, folder, WEB0) as mounts:
        second = await mounts.files(USER)
        await until(lambda: {second["user"].decode()} == vault.database_users)
    async with process(vault, folder, WEB0) as mounts:
        assert second == await mounts.files(USER)


async def test_lease_that_expired_during_the_restart_is_replaced(
    vault: VaultApi, folder: Path
) -> None:
    """Times are those of the machine's clock, which continues during the restart."""
    async with process(vault, folder) as mounts:
        first = await mounts.files(USER)
    vault.now += 61
    async with process(vault, folder, WEB0) as mounts:
        assert [] == records(folder)
        assert first != await mounts.files(USER)


async def test_token_revoked_during_the_restart_is_replaced_once(
    vault: VaultApi, folder: Path
) -> None:
    """Its lease was revoked with it."""
    async with process(vault, folder) as mounts:
        first = await mounts.files(USER)
    vault.tokens.clear()
    vault.leases.clear()
    vault.now += 45
    async with process(vault, folder, WEB0) as mounts:
        second = await mounts.files(USER)
        assert first != second
        assert second == await mounts.files(USER)


async def test_unusable_records_are_deleted_and_logged(vault: VaultApi, folder: Path) -> None:
    """The process starts, and the log quotes none of their content."""
    async with process(vault, folder) as mounts:
        await mounts.files(USER, pod=WEB0)
        await mounts.files(USER, pod=WEB1)
    whole, half = records(folder)
    half.write_bytes(half.read_bytes()[:-20])
    (folder / "vault" / "other").write_bytes(whole.read_bytes())
    (folder / "vault" / "other").chmod(0o600)
    with captured_log() as log:
        async with process(vault, folder, WEB0, WEB1):
            assert [whole] == records(folder)
    assert 2 == log.getvalue().count("unusable lease record deleted")
    assert "hvs." not in log.getvalue()


async def test_unusable_directory_is_logged_and_mounts_succeed(
    vault: VaultApi, folder: Path
) -> None:
    (folder / "vault").mkdir()
    (folder / "vault").chmod(0o777)
    with captured_log() as log:
        async with process(vault, folder) as mounts:
            assert await mounts.files(USER)
    assert 1 == log.getvalue().count("it is accessible to other users")
    assert [] == records(folder)


async def test_missing_directory_is_logged_once(vault: VaultApi) -> None:
    """With the remedy, and only if a lease is created."""
    with captured_log() as log:
        async with vault_mounts(vault) as mounts:
            await mounts.files(USER, pod=WEB0)
            await mounts.files(USER, pod=WEB1)
    assert 1 == log.getvalue().count("--lease-dir")


async def test_first_directory_on_a_tmpfs_is_used(
    vault: VaultApi, folder: Path, tmp_path: Path
) -> None:
    """Nothing is logged at the start; with the first lease, once, that another would be better."""
    on_disk = tmp_path / "disk"
    settings = VaultSettings(renew_leases=False, lease_folders=(str(on_disk), str(folder)))
    with captured_log() as log:
        async with vault_mounts(vault, settings=settings) as mounts:
            assert frozenset() == mounts.provider.restore()
            assert "" == log.getvalue()
            await mounts.files(USER, pod=WEB0)
            await mounts.files(USER, pod=WEB1)
    assert 2 == len(records(folder))
    (line,) = log.getvalue().splitlines()
    assert line.startswith("W")
    assert f"{on_disk}/vault cannot be used: it is on" in line


async def test_unusable_directory_is_logged_only_with_a_lease(
    vault: VaultApi, tmp_path: Path
) -> None:
    """Most nodes have no lease; then there is nothing to act on."""
    settings = VaultSettings(renew_leases=False, lease_folders=(str(tmp_path),))
    with captured_log() as log:
        async with vault_mounts(vault, settings=settings) as mounts:
            mounts.provider.restore()
            assert "" == log.getvalue()
            await mounts.files(USER, pod=WEB0)
    assert 1 == log.getvalue().count("leases will not survive a restart")
    assert not [line for line in log.getvalue().splitlines() if line.startswith("E")]
