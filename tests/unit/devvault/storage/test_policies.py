from __future__ import annotations

import pytest

from keyferry.errors import ObjectNotFoundError, RequestInvalidError
from keyferry_devvault.model import DEFAULT_TENANT, Permission
from keyferry_devvault.storage.data import DevVaultData


def test_a_policy_is_what_was_granted_last(dev: DevVaultData) -> None:
    """Granting replaces, granting nothing revokes, and nobody has anything from the start."""
    dev.vaults.ensure("kv1")
    dev.identities.add_managed("m")
    assert dev.policies.allowed("kv1", "m") == frozenset()
    dev.policies.set_permissions("KV1", "M", [Permission.GET, Permission.LIST])
    dev.policies.set_permissions("kv1", "m", [Permission.GET])
    assert dev.policies.of_vault("kv1") == {"m": {Permission.GET}}
    dev.policies.set_permissions("kv1", "m", [])
    assert dev.policies.of_vault("kv1") == {}


def test_a_policy_holds_for_one_vault(dev: DevVaultData) -> None:
    """Rights on one vault say nothing of another."""
    for vault in ("kv1", "kv2"):
        dev.vaults.ensure(vault)
    dev.identities.add_managed("m")
    dev.policies.set_permissions("kv1", "m", [Permission.GET])
    assert dev.policies.allowed("kv2", "m") == frozenset()


def test_a_policy_needs_an_existing_vault_and_identity(dev: DevVaultData) -> None:
    """A typo is an error, not a policy that never applies."""
    dev.identities.add_managed("m")
    with pytest.raises(ObjectNotFoundError, match="there is no vault 'kv1'"):
        dev.policies.set_permissions("kv1", "m", [Permission.GET])
    dev.vaults.ensure("kv1")
    with pytest.raises(RequestInvalidError, match="no identity has the client ID 'x'"):
        dev.policies.set_permissions("kv1", "x", [Permission.GET])


def test_a_vault_accepts_identities_of_one_tenant(dev: DevVaultData) -> None:
    """It changes its tenant only while nobody else has a policy on it."""
    assert dev.policies.tenant("kv1") is None
    dev.vaults.ensure("kv1")
    assert dev.policies.tenant("kv1") == DEFAULT_TENANT
    dev.identities.add_app("a", tenant="t1", secret="s")
    dev.identities.add_app("b", tenant="t2", secret="s")
    dev.policies.set_permissions("kv1", "b", [Permission.GET])
    assert dev.policies.tenant("KV1") == "t2"
    with pytest.raises(RequestInvalidError, match="belongs to tenant 't2', identity 'a' to 't1'"):
        dev.policies.set_permissions("kv1", "a", [Permission.GET])
    dev.policies.set_permissions("kv1", "b", [])
    dev.policies.set_permissions("kv1", "a", [Permission.GET])
    assert dev.policies.tenant("kv1") == "t1"


def test_a_vault_follows_the_home_tenant(dev: DevVaultData) -> None:
    """A vault that was made for this machine also opens to an app whose class names a tenant."""
    dev.vaults.ensure("kv1")
    dev.policies.set_permissions(
        "kv1", dev.identities.ensure_system_assigned().client_id, [Permission.GET]
    )
    dev.identities.add_app("a", tenant="t1", secret="s")
    dev.policies.set_permissions("kv1", "a", [Permission.GET])
    assert dev.policies.tenant("kv1") == "t1"
    assert 2 == len(dev.policies.of_vault("kv1"))
