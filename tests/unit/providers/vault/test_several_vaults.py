"""Entries of `objects` that name another Vault address, namespace or role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.providers.settings import VaultSettings
from keyferry.providers.sources.numbering import MAX_SOURCES
from keyferry.providers.vault.auth.login import JwtLogin
from keyferry.providers.vault.params import MountParams, parse_mount
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from tests.fakes.vault_mounts import entry
from tests.unit.providers.vault.test_params import POD

HOME = "https://home.example.com:8200"
OTHER = "https://other.example.com:8200"
CLASS = {**POD, "vaultAddress": HOME, "roleName": "app", "vaultNamespace": "team"}
FIRST = entry("first", "secret/data/db")


def parsed(
    *entries: dict[str, Any],
    product: Product = VAULT,
    settings: VaultSettings | None = None,
    secrets: Mapping[str, str] | None = None,
    restrictions: ClassRestrictions | None = None,
    **parameters: str,
) -> MountParams:
    return parse_mount(
        {**CLASS, **parameters, "objects": json.dumps(entries)},
        secrets,
        target_path="/t",
        product=product,
        settings=settings or VaultSettings(),
        restrictions=restrictions or ClassRestrictions(),
    )


def second(**fields: str) -> dict[str, Any]:
    return entry("second", "secret/data/db", **fields)


def refusal(*entries: dict[str, Any], **options: Any) -> KeyferryError:
    with pytest.raises(KeyferryError) as caught:
        parsed(*entries, **options)
    return caught.value


def test_entry_inherits_what_it_does_not_name() -> None:
    mount = parsed(FIRST, second(vaultAddress=OTHER), vaultCACertPath="/etc/keyferry/ca.pem")
    home, other = mount.logins
    assert (HOME, OTHER) == (home.server.address.base, other.server.address.base)
    assert ("team", home.server.tls) == (other.server.namespace, other.server.tls)
    assert (home.auth_mount, home.method) == (other.auth_mount, other.method)
    assert [0, 1] == [each.source for each in mount.objects]
    assert ["home.example.com:8200/first", "other.example.com:8200/second"] == [
        each.id for each in mount.objects
    ]


def test_namespace_and_role_of_an_entry() -> None:
    """They are no other vault, so the IDs have no prefix."""
    mount = parsed(FIRST, second(vaultNamespace="other"), entry("third", "x", roleName="admin"))
    assert ["team", "other", "team"] == [login.server.namespace for login in mount.logins]
    roles = [login.method.role for login in mount.logins if isinstance(login.method, JwtLogin)]
    assert ["app", "app", "admin"] == roles
    assert ["first", "second", "third"] == [each.id for each in mount.objects]


@pytest.mark.parametrize("prefix", ["bao", "openbao", "vault"])
def test_openbao_has_its_spellings(prefix: str) -> None:
    """Whatever the SecretProviderClass uses."""
    fields = {
        f"{prefix}Address": OTHER,
        f"{prefix}Namespace": "other",
        f"{prefix}RoleName": "admin",
    }
    mount = parsed(FIRST, second(**fields), product=OPENBAO, baoAddress=HOME, baoRoleName="app")
    login = mount.logins[1]
    assert isinstance(login.method, JwtLogin)
    assert (OTHER, "other", "admin") == (
        login.server.address.base,
        login.server.namespace,
        login.method.role,
    )


def test_entries_that_name_the_vault_of_the_class_share_its_login() -> None:
    mount = parsed(FIRST, second(vaultAddress=f"{HOME}/", roleName="app"))
    assert 1 == len(mount.logins)
    assert [0, 0] == [each.source for each in mount.objects]


def test_class_needs_no_role_if_every_entry_names_one() -> None:
    parsed(second(roleName="admin"), roleName="")
    error = refusal(second(roleName="admin"), FIRST, roleName="")
    assert error.problem.endswith("roleName is not set (the entry at index 1, line 1 of objects)")


def test_version_of_an_object_does_not_depend_on_the_vault() -> None:
    """The HMAC is of the fields that upstream knows."""
    named, plain = (parsed(each).objects[0] for each in (second(vaultAddress=OTHER), second()))
    assert named.canonical_json == plain.canonical_json


@pytest.mark.parametrize(
    ("fields", "parameters", "problem", "remedy"),
    [
        ({"vaultAddress": "v:8200"}, {}, "vaultAddress: the address does not begin", "Set it to"),
        ({"vaultAddress": "unix:///run/x"}, {}, "may not name a Unix socket", "Remove it."),
        ({"vaultNamespace": "a b"}, {}, "vaultNamespace 'a b' is not a valid path", "Write the"),
        (
            {"roleName": "admin"},
            {"vaultAuthMethod": "token"},
            "roleName of an entry has no effect with the auth method token",
            "Remove roleName from the entry.",
        ),
    ],
)
def test_invalid_field_of_an_entry_is_an_error_with_its_place(
    fields: dict[str, str], parameters: dict[str, str], problem: str, remedy: str
) -> None:
    """Before any request."""
    error = refusal(FIRST, second(**fields), secrets={"token": "t"}, **parameters)
    assert isinstance(error, ClassInvalidError)
    assert problem in error.problem
    assert error.problem.endswith("(the entry at index 1, line 1 of objects)")
    assert error.remedy.startswith(remedy)


def test_two_spellings_in_one_entry_are_an_error() -> None:
    """Which one counts must not be a riddle; in a SecretProviderClass it is as with upstream."""
    error = refusal(second(baoAddress=OTHER, vaultAddress=HOME), product=OPENBAO)
    assert "objects: baoAddress and vaultAddress are set" in error.problem


def test_address_of_an_entry_is_refused_with_an_agent() -> None:
    """All requests go to the agent, which knows one vault."""
    agent = VaultSettings(agent_address="unix:///run/agent.sock")
    parsed(FIRST, second(roleName="admin"), settings=agent)
    error = refusal(FIRST, second(vaultAddress=OTHER), settings=agent)
    assert "vaultAddress of an entry has no effect: the administrator set VAULT_AGENT_ADDR" in (
        error.problem
    )


def test_number_of_logins_is_limited() -> None:
    entries = [entry(f"n{n}", "x", roleName=f"role-{n}") for n in range(MAX_SOURCES)]
    assert MAX_SOURCES == len(parsed(*entries).logins)
    assert "objects names 11 combinations of vault and identity" in refusal(*entries, FIRST).problem
