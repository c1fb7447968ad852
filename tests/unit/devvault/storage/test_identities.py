from __future__ import annotations

import msgspec
import pytest

from keyferry.errors import RequestInvalidError
from keyferry_devvault.model import (
    CLUSTER_ISSUER,
    DEFAULT_TENANT,
    FederatedCredential,
    IdentityKind,
    Permission,
)
from keyferry_devvault.storage.data import DevVaultData
from keyferry_devvault.storage.signing_keys import SigningKeyName


def test_an_identity_is_found_by_its_client_id_in_any_case(dev: DevVaultData) -> None:
    """Ids are UUIDs, whose case carries nothing."""
    added = dev.identities.add_app("AB-12", tenant="T-1", secret="s")
    assert added == dev.identities.find("ab-12")
    assert ("ab-12", "t-1") == (added.client_id, added.tenant)


def test_the_first_tenant_named_is_that_of_everything_without_one(dev: DevVaultData) -> None:
    """A class brings its tenant; what was set up before it must go on working beside it."""
    machine = dev.identities.ensure_system_assigned()
    assert (machine.tenant, frozenset({DEFAULT_TENANT})) == (
        DEFAULT_TENANT,
        dev.identities.tenants(),
    )
    dev.identities.add_app("a", tenant="T1", secret="s")
    assert "t1" == dev.identities.get("system").tenant
    dev.identities.add_app("b", tenant="t2", secret="s")
    assert ("t1", frozenset({"t1", "t2"})) == (
        dev.identities.home_tenant(),
        dev.identities.tenants(),
    )


def test_a_client_secret_is_kept_as_a_digest_only(dev: DevVaultData) -> None:
    """Entra never shows a secret again either."""
    identity = dev.identities.add_app("a", secret="canary")
    assert identity.secret_digest not in (None, b"canary")
    dev.close()
    assert not any(b"canary" in path.read_bytes() for path in dev.folder.iterdir())


def test_there_is_one_system_assigned_identity(dev: DevVaultData) -> None:
    """A new one replaces the former, which stays as a user-assigned one."""
    assert dev.identities.system_assigned() is None
    first = dev.identities.ensure_system_assigned()
    assert first == dev.identities.ensure_system_assigned() == dev.identities.find("system")
    dev.identities.add_managed("new", system_assigned=True)
    assert dev.identities.get("system").client_id == "new"
    assert dev.identities.get(first.client_id).kind is IdentityKind.USER_ASSIGNED


def test_an_unknown_identity_is_refused_with_the_remedy(dev: DevVaultData) -> None:
    """The message names the id and how to add it."""
    with pytest.raises(RequestInvalidError, match="no identity has the client ID 'nobody'"):
        dev.identities.get("nobody")


@pytest.mark.parametrize("client_id", ["", "system", "SYSTEM"])
def test_a_client_id_is_neither_empty_nor_the_reserved_word(
    dev: DevVaultData, client_id: str
) -> None:
    """`system` stands for the system-assigned identity."""
    with pytest.raises(RequestInvalidError, match="cannot be a client ID"):
        dev.identities.add_managed(client_id)


def test_removing_an_identity_takes_its_rights_along(dev: DevVaultData) -> None:
    """Added again, it may do nothing."""
    dev.vaults.ensure("kv1")
    dev.identities.add_app("a", secret="s")
    dev.identities.add_federated_credential(FederatedCredential("a", "iss", "sub", "aud"))
    dev.policies.set_permissions("kv1", "a", [Permission.GET])
    dev.identities.remove("A")
    assert dev.identities.find("a") is None
    dev.identities.add_app("a", secret="s")
    assert dev.identities.federated_credentials("a") == ()
    assert dev.policies.allowed("kv1", "a") == frozenset()


def test_a_federated_credential_needs_an_app_or_a_user_assigned_identity(dev: DevVaultData) -> None:
    """The system-assigned identity of a machine takes none."""
    dev.identities.add_managed("m")
    dev.identities.add_managed("s", system_assigned=True)
    credential = FederatedCredential("m", "iss", "sub", "aud")
    dev.identities.add_federated_credential(credential)
    dev.identities.add_federated_credential(credential)
    assert dev.identities.federated_credentials("M") == (credential,)
    with pytest.raises(RequestInvalidError, match="cannot have a federated credential"):
        dev.identities.add_federated_credential(FederatedCredential("s", "iss", "sub", "aud"))


def test_emulated_cluster_is_a_trusted_issuer_once_it_has_a_key(dev: DevVaultData) -> None:
    """Its tokens need no registration."""
    keys = dev.signing_keys.public_jwks(SigningKeyName.CLUSTER)
    assert dev.identities.issuer_keys(CLUSTER_ISSUER) == keys
    assert dev.identities.issuers() == (CLUSTER_ISSUER,)


def test_a_foreign_issuer_is_trusted_with_the_keys_that_it_publishes(dev: DevVaultData) -> None:
    """An unusable JWKS is refused before it is stored."""
    keys = dev.signing_keys.public_jwks(SigningKeyName.ENTRA)
    dev.identities.add_issuer("https://issuer.example", msgspec.json.encode(keys).decode())
    assert dev.identities.issuer_keys("https://issuer.example") == keys
    with pytest.raises(RequestInvalidError, match=r"JWKS of issuer 'https://other\.example'"):
        dev.identities.add_issuer("https://other.example", "{}")
    assert dev.identities.issuer_keys("https://other.example") is None
