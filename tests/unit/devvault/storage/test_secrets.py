from __future__ import annotations

import re

import pytest

from keyferry.errors import ObjectNotFoundError, ObjectUnusableError, RequestInvalidError
from keyferry_devvault.model import SecretAttributes
from keyferry_devvault.storage.data import DevVaultData
from tests.unit.devvault.calls import NOW


def test_the_latest_version_is_the_one_set_last(dev: DevVaultData) -> None:
    """Versions set within one second keep their order; each has 32 hexadecimal digits."""
    versions = [dev.secrets.set("kv1", "db", text).version for text in ("a", "b", "c")]
    found = dev.secrets.find("kv1", "db")
    assert found is not None
    assert "c" == found.value
    assert versions == [row.version for row in dev.secrets.versions("kv1", "db")]
    assert all(re.fullmatch("[0-9a-f]{32}", version) for version in versions)


def test_an_older_version_is_found_by_its_id(dev: DevVaultData) -> None:
    """A class may pin a version."""
    old = dev.secrets.set("kv1", "db", "old")
    dev.secrets.set("kv1", "db", "new")
    assert old == dev.secrets.find("kv1", "db", old.version.upper())
    assert dev.secrets.find("kv1", "db", "0" * 32) is None


def test_names_are_matched_without_regard_to_case(dev: DevVaultData) -> None:
    """So does the real vault; the name is shown as it was first written."""
    dev.secrets.set("Kv1", "Db", "a")
    assert dev.secrets.get("kV1", "dB").value == "a"
    assert ["Db"] == [row.name for row in dev.secrets.latest("kv1")]
    assert dev.vaults.names() == ("kv1",)


def test_attributes_are_kept(dev: DevVaultData) -> None:
    """Everything that a writer says comes back, with the time of writing."""
    attributes = SecretAttributes(
        enabled=False, expires=5, not_before=4, content_type="text/plain", tags={"a": "b"}
    )
    dev.secrets.set("kv1", "db", "x", attributes)
    row = dev.secrets.get("kv1", "db")
    assert (False, 5, 4, "text/plain", {"a": "b"}) == (
        row.enabled,
        row.expires,
        row.not_before,
        row.content_type,
        row.tags,
    )
    assert (int(NOW), int(NOW)) == (row.created, row.updated)


def test_an_update_changes_what_it_names_and_nothing_else(dev: DevVaultData) -> None:
    """Disabling keeps value, tags and expiry."""
    first = dev.secrets.set("kv1", "db", "x", SecretAttributes(expires=5, tags={"a": "b"}))
    second = dev.secrets.set("kv1", "db", "y")
    dev.secrets.update("kv1", "db", first.version, SecretAttributes(enabled=False))
    old, new = dev.secrets.versions("kv1", "db")
    assert (False, "x", 5, {"a": "b"}) == (old.enabled, old.value, old.expires, old.tags)
    assert second == new


def test_a_deleted_secret_is_hidden_until_it_is_recovered(dev: DevVaultData) -> None:
    """Its name cannot be used in between, as in the real vault."""
    dev.secrets.set("kv1", "db", "x")
    dev.secrets.set("kv1", "other", "x")
    dev.secrets.delete("kv1", "DB")
    assert dev.secrets.find("kv1", "db") is None
    assert ["other"] == [row.name for row in dev.secrets.latest("kv1")]
    assert ["db"] == [row.latest.name for row in dev.secrets.deleted("kv1")]
    with pytest.raises(
        ObjectUnusableError, match="Recover it: keyferry devvault delete kv1 db --recover --data"
    ):
        dev.secrets.set("kv1", "db", "y")
    dev.secrets.recover("kv1", "db")
    assert dev.secrets.get("kv1", "db").value == "x"
    assert dev.secrets.deleted("kv1") == ()


def test_purged_secret_cannot_be_recovered(dev: DevVaultData) -> None:
    """Only a deleted secret can be purged; its name is free then."""
    dev.secrets.set("kv1", "db", "x")
    dev.secrets.purge("kv1", "db")
    assert dev.secrets.get("kv1", "db").value == "x"
    dev.secrets.delete("kv1", "db")
    dev.secrets.purge("kv1", "db")
    assert dev.secrets.find_deleted("kv1", "db") is None
    dev.secrets.set("kv1", "db", "y")
    assert ["y"] == [row.value for row in dev.secrets.versions("kv1", "db")]


@pytest.mark.parametrize("vault", ["", "kv", "k" * 25, "kv_1", "a.b"])
def test_an_impossible_vault_name_is_refused(dev: DevVaultData, vault: str) -> None:
    """3 to 24 letters, digits and hyphens."""
    with pytest.raises(RequestInvalidError, match="cannot be the name of a vault"):
        dev.secrets.set(vault, "db", "x")


@pytest.mark.parametrize("name", ["", "a_b", "a/b", "a" * 128, "é"])
def test_an_impossible_secret_name_is_refused(dev: DevVaultData, name: str) -> None:
    """1 to 127 letters, digits and hyphens; nothing is left behind."""
    with pytest.raises(RequestInvalidError, match="cannot be the name of a secret"):
        dev.secrets.set("kv1", name, "x")
    assert dev.vaults.names() == ()


def test_a_value_longer_than_the_real_limit_is_refused_without_quoting_it(
    dev: DevVaultData,
) -> None:
    """25 KiB, counted in bytes."""
    dev.secrets.set("kv1", "db", "x" * 25 * 1024)
    with pytest.raises(RequestInvalidError, match="longer than 25600 bytes") as caught:
        dev.secrets.set("kv1", "db", "é" * 12_801)
    assert "é" not in str(caught.value)


def test_a_missing_secret_or_version_is_named(dev: DevVaultData) -> None:
    """The message says which one and where to look."""
    with pytest.raises(ObjectNotFoundError, match="there is no vault 'kv1'"):
        dev.secrets.get("kv1", "db")
    dev.vaults.ensure("kv1")
    with pytest.raises(ObjectNotFoundError, match="vault 'kv1' has no secret 'db'"):
        dev.secrets.get("kv1", "db")
    with pytest.raises(ObjectNotFoundError, match="no version 'ff' of secret 'db'"):
        dev.secrets.get("kv1", "db", "ff")


def test_a_value_is_in_no_repr(dev: DevVaultData) -> None:
    """A row in a log reveals no value."""
    assert "canary" not in repr(dev.secrets.set("kv1", "db", "canary"))
