"""Entries of `objects` that name another vault, tenant or client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyferry.content import FileLimit
from keyferry.errors import ClassInvalidError, IdentityError, KeyferryError
from keyferry.formats.certs.material import ParsedMaterial
from keyferry.providers.azure.auth.identity import (
    IdentityBinding,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.providers.azure.content import render_all
from keyferry.providers.azure.objects import named_files
from keyferry.providers.azure.params import AzureMount, BundleOptions, parse_mount
from keyferry.providers.azure.responses import KeyVaultSecret, Properties
from keyferry.providers.azure.vault_address import VaultAddress
from keyferry.providers.azure.versions import request_for
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.providers.sources.numbering import MAX_SOURCES
from tests.fakes.azure_mounts import entry
from tests.unit.providers.azure.test_params import tokens

POD = {POD_NAME: "web", POD_NAMESPACE: "shop", SERVICE_ACCOUNT: "web"}
CLASS = {**POD, "keyvaultName": "contoso", "tenantID": "home"}
VM = {"useVMManagedIdentity": "true"}
FIRST = entry("first")


def parsed(*entries: str, **options: Any) -> AzureMount:
    """Parse these entries; other options than those of `parse_mount` are parameters."""
    secrets, base = options.pop("secrets", None), options.pop("base", CLASS)
    restrictions = options.pop("restrictions", ClassRestrictions())
    objects = json.dumps({"array": entries})
    return parse_mount({**base, "objects": objects, **options}, secrets, restrictions=restrictions)


def refusal(*entries: str, **options: Any) -> KeyferryError:
    with pytest.raises(KeyferryError) as caught:
        parsed(*entries, **options)
    return caught.value


def test_entry_inherits_what_it_does_not_name() -> None:
    mount = parsed(FIRST, entry("second", keyvaultName="fabrikam"), **VM)
    home, other = mount.sources
    assert (home.vault, other.vault) == (VaultAddress("contoso"), VaultAddress("fabrikam"))
    assert other.tenant == home.tenant == "home"
    assert other.identity == home.identity == VmManagedIdentity("")
    assert [0, 1] == [each.source for each in mount.objects]


@pytest.mark.parametrize(
    ("of_class", "of_entry", "expected"),
    [
        ({"keyvaultName": "contoso"}, {"keyvaultURL": "https://hsm.managedhsm.azure.net"}, "hsm"),
        (
            {"keyvaultName": "", "keyvaultURL": "https://hsm.managedhsm.azure.net"},
            {"keyvaultName": "fabrikam"},
            "fabrikam",
        ),
    ],
)
def test_name_replaces_an_inherited_url_and_the_reverse(
    of_class: dict[str, str], of_entry: dict[str, str], expected: str
) -> None:
    _, other = parsed(FIRST, entry("second", **of_entry), **VM, **of_class).sources
    assert expected == other.vault.name


@pytest.mark.parametrize("spelling", ["tenantID", "tenantId"])
def test_tenant_of_an_entry_has_both_spellings(spelling: str) -> None:
    _, other = parsed(FIRST, entry("second", **{spelling: "other"}), **VM).sources
    assert ("contoso", "other") == (other.vault.name, other.tenant)


def test_client_of_an_entry_is_used_in_the_mode_of_the_class() -> None:
    exchange, binding = tokens("t"), tokens("t", "api://AKSIdentityBinding")
    second = entry("second", clientID="other")
    for parameters, kind in (
        ({"clientID": "app", SERVICE_ACCOUNT_TOKENS: exchange}, WorkloadIdentity),
        (
            {"clientID": "a", "useAzureTokenProxy": "true", SERVICE_ACCOUNT_TOKENS: binding},
            IdentityBinding,
        ),
        (VM | {"userAssignedIdentityObjectID": "object"}, VmManagedIdentity),
    ):
        home, other = (each.identity for each in parsed(FIRST, second, **parameters).sources)
        assert type(home) is type(other) is kind
        assert isinstance(other, WorkloadIdentity | IdentityBinding | VmManagedIdentity)
        assert "other" == other.client_id
        if isinstance(other, VmManagedIdentity):
            assert not other.object_id


def test_class_needs_no_vault_if_every_entry_names_one() -> None:
    mount = parsed(entry("second", keyvaultName="fabrikam", tenantID="other"), base=POD, **VM)
    assert ["fabrikam"] == [each.vault.name for each in mount.sources]
    assert ["secret/second"] == [each.id for each in mount.objects]


def test_entries_that_name_the_vault_of_the_class_share_its_source() -> None:
    mount = parsed(FIRST, entry("second", keyvaultName="contoso"), **VM)
    assert 1 == len(mount.sources)
    assert ["secret/first", "secret/second"] == [each.id for each in mount.objects]


def test_ids_have_the_vault_only_if_several_are_used() -> None:
    """Two identities of one vault are not two vaults."""
    hsm = entry("key", objectType="key", keyvaultURL="https://contoso.managedhsm.azure.net")
    url = entry("url", keyvaultURL="https://contoso.vault.azure.net/")
    other = entry("other", keyvaultName="fabrikam", objectVersionHistory="2").replace('"2"', "2")
    ids = [each.ids for each in parsed(FIRST, hsm, url, other, **VM).objects]
    assert ids == [
        ("contoso/secret/first",),
        ("contoso.managedhsm.azure.net/key/key",),
        ("contoso/secret/url",),
        ("fabrikam/secret/other/0", "fabrikam/secret/other/1"),
    ]
    two_identities = parsed(FIRST, entry("second", tenantID="other"), url, **VM)
    assert [each.id for each in two_identities.objects] == [
        "secret/first",
        "secret/second",
        "secret/url",
    ]


@pytest.mark.parametrize(
    ("fields", "parameters", "problem", "remedy"),
    [
        (
            {"keyvaultName": "one", "keyvaultURL": "https://two.vault.azure.net"},
            VM,
            "keyvaultName and keyvaultURL are both set",
            "Remove one of them.",
        ),
        ({"keyvaultName": "b"}, VM, 'Invalid vault name: "b", must be between 3 and 24', "Set "),
        ({"keyvaultURL": "http://x"}, VM, "keyvaultURL is not an https URL", "Write it as"),
        ({"tenantID": "a b"}, VM, "tenantId is neither an ID nor a domain name", "Set it to"),
        (
            {"clientID": "x"},
            {"useArcManagedIdentity": "true"},
            "clientID of an entry has no effect with useArcManagedIdentity: the Azure Arc machine",
            "Remove clientID from the entry.",
        ),
        (
            {"clientID": "x"},
            {"usePodIdentity": "true"},
            "clientID of an entry has no effect with usePodIdentity: the pod has only one identity",
            "Remove clientID from the entry.",
        ),
        (
            {"clientID": "x"},
            {},
            "clientID of an entry has no effect with nodePublishSecretRef",
            "Remove clientID from the entry, or use workload identity for all objects.",
        ),
    ],
)
def test_invalid_field_of_an_entry_is_an_error_with_its_place(
    fields: dict[str, str], parameters: dict[str, str], problem: str, remedy: str
) -> None:
    """Before any request."""
    secrets = None if parameters else {"clientid": "c", "clientsecret": "s"}
    error = refusal(FIRST, entry("second", **fields), secrets=secrets, **parameters)
    assert isinstance(error, ClassInvalidError)
    assert problem in error.problem
    assert error.problem.endswith("(entry at index 1, line 1 of objects)")
    assert error.remedy.startswith(remedy)


def test_permitted_tenants_apply_to_entries() -> None:
    restrictions = ClassRestrictions(azure_tenants=("home",))
    parsed(FIRST, restrictions=restrictions, **VM)
    error = refusal(FIRST, entry("second", tenantID="other"), restrictions=restrictions, **VM)
    assert error.problem == (
        "tenantId is other, which is not permitted (entry at index 1, line 1 of objects)"
    )


def test_entry_without_a_vault_is_named_if_another_one_has_it() -> None:
    """The SecretProviderClass sets none."""
    base = POD | {"tenantID": "home"}
    error = refusal(entry("second", keyvaultName="fabrikam"), FIRST, base=base, **VM)
    assert error.problem == "keyvaultName is not provided (entry at index 1, line 1 of objects)"


def test_errors_of_a_class_without_such_entries_name_no_entry() -> None:
    assert "keyvaultName is not provided" == refusal(FIRST, base=POD, **VM).problem
    error = refusal(FIRST)
    assert isinstance(error, IdentityError)
    assert "entry at index" not in error.problem


def test_number_of_logins_is_limited() -> None:
    """Ten entries with ten vaults, or ten entries and the vault of the SecretProviderClass."""
    entries = [entry(f"name-{n}", keyvaultName=f"vault-{n}") for n in range(MAX_SOURCES)]
    assert MAX_SOURCES == len(parsed(*entries, **VM).sources)
    error = refusal(*entries, FIRST, **VM)
    assert error.problem == (
        "objects names 11 combinations of vault and identity; at most 10 are allowed, because each "
        "needs a login"
    )


def test_one_name_in_two_vaults_needs_an_alias() -> None:
    """The message names both vaults."""
    error = refusal(FIRST, entry("first", keyvaultName="fabrikam"), **VM)
    assert error.problem == (
        "secret first of vault contoso and secret first of vault fabrikam have the same file path "
        "'first'"
    )
    assert "Set objectAlias for one of them." == error.remedy
    parsed(FIRST, entry("first", keyvaultName="fabrikam", objectAlias="other"), **VM)


def test_named_files_name_the_vault() -> None:
    """`secretObjects` may refer to the alias; the name in the vault is ambiguous."""
    second = entry("first", keyvaultName="fabrikam", objectAlias="other")
    files = named_files({**CLASS, "objects": json.dumps({"array": [FIRST, second]})})
    named = {file.path: file.object_name for file in files if "." not in file.path}
    assert named == {
        "first": "secret first of vault contoso",
        "other": "secret first of vault fabrikam",
    }


def test_messages_and_expiries_name_the_vault() -> None:
    """Also for the first failure, whose error may be about the vault."""
    second = entry("first", keyvaultName="fabrikam", objectAlias="other")
    objects = parsed(FIRST, second, expiryWarning="30d", **VM).objects
    secret = KeyVaultSecret("v", "1", properties=Properties(expires_at=1000))
    outage = KeyferryError("it could not be reached")

    def rendered(*outcomes: KeyVaultSecret | KeyferryError) -> tuple[str, ...]:
        found = [each if isinstance(each, KeyferryError) else (each,) for each in outcomes]
        volume = render_all(
            objects,
            dict(zip(map(request_for, objects), found, strict=True)),
            default_mode=0o644,
            options=BundleOptions(),
            parse=lambda _: ParsedMaterial(),
            limit=FileLimit(),
        )
        return tuple(expiry.object_name for expiry in volume.result.expiries)

    assert rendered(secret, secret) == (
        "secret first of vault contoso",
        "secret first of vault fabrikam",
    )
    with pytest.raises(KeyferryError) as caught:
        rendered(secret, outage)
    assert "secret first of vault fabrikam: it could not be reached" == caught.value.problem
    with pytest.raises(KeyferryError, match="also failed: secret first of vault fabrikam"):
        rendered(outage, outage)
