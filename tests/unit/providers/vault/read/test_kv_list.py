"""KV version 2 lists: which cached secrets they revalidate, and when they pay off."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.providers.vault.api_path import parse_api_path
from keyferry.providers.vault.http.response import VaultResponse, parse_response
from keyferry.providers.vault.read.kv_list import (
    KvSecret,
    is_revalidatable,
    is_unchanged,
    listed_entries,
    max_list_entries,
    parse_kv_path,
)
from keyferry.records import replace


@dataclass
class KvEngine:
    """A secret of KV version 2 as OpenBao 2.7 stores and shows it. Each change takes a second.

    Attributes:
        now: current time in seconds.
        versions: number -> value, creation, deletion ("" for none), destroyed.
        custom: custom metadata.
    """

    now: int = 0
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    custom: dict[str, str] | None = None

    def do(self, change: str) -> None:
        """Apply one change, or let time pass."""
        self.now += 1
        current = self.versions.get(max(self.versions, default=0))
        match change:
            case "write" | "write with an end":
                end = self._time(self.now + 2) if change == "write with an end" else ""
                self.versions[max(self.versions, default=0) + 1] = {
                    "value": self.now,
                    "created_time": self._time(self.now),
                    "deletion_time": end,
                    "destroyed": False,
                }
                self.versions.pop(max(self.versions) - 3, None)
            case "delete" if current:
                current["deletion_time"] = self._time(self.now)
            case "undelete" if current:
                current["deletion_time"] = ""
            case "destroy" if current:
                current |= {"destroyed": True, "value": None}
            case "forget":
                self.versions, self.custom = {}, None
            case "annotate" if current:
                self.custom = {"at": str(self.now)}
            case _:
                pass

    def read(self) -> bytes | None:
        """Return the response to a read; None for 404."""
        number = max(self.versions, default=0)
        version = self.versions.get(number)
        if not version or version["destroyed"]:
            return None
        if version["deletion_time"] and version["deletion_time"] <= self._time(self.now):
            return None
        metadata = {"version": number, "custom_metadata": self.custom, **self._shown(version)}
        data = {"data": {"n": version["value"]}, "metadata": metadata}
        return json.dumps({"request_id": "r", "data": data}).encode()

    def list(self) -> VaultResponse:
        """Return the response to a list of the folder."""
        entry = {
            "current_version": max(self.versions, default=0),
            "custom_metadata": self.custom,
            "max_versions": 3,
            "versions": {str(n): self._shown(v) for n, v in self.versions.items()},
        }
        info: dict[str, Any] = {"sub/": {}} | ({"db": entry} if self.versions else {})
        return parse_response(json.dumps({"data": {"key_info": info}}).encode())

    @staticmethod
    def _time(second: int) -> str:
        return f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000000001Z"

    @staticmethod
    def _shown(version: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in version.items() if key != "value"}


CHANGES = ["write", "write with an end", "delete", "undelete", "destroy", "forget", "annotate", ""]


@given(
    before=st.lists(st.sampled_from(CHANGES), max_size=6),
    after=st.lists(st.sampled_from(CHANGES), max_size=6),
)
def test_revalidated_secret_equals_a_read(before: list[str], after: list[str]) -> None:
    """After any changes, a revalidated secret is byte for byte what a read would return."""
    engine = KvEngine()
    for change in ["write", *before]:
        engine.do(change)
    held = engine.read()
    if held is None or not is_revalidatable(parse_response(held)):
        return
    for change in after:
        engine.do(change)
    entries = listed_entries(engine.list())
    assert entries is not None
    if is_unchanged(parse_response(held), entries.get("db")):
        assert held == engine.read()
    elif not set(after) - {""}:
        pytest.fail("nothing has changed, but the list proves nothing")


def kv2_response(**changes: Any) -> VaultResponse:
    """Return a KV version 2 response with changed metadata."""
    metadata = {
        "created_time": "2026-01-01T00:00:00Z",
        "custom_metadata": None,
        "deletion_time": "",
        "destroyed": False,
        "version": 1,
    }
    data = {"data": {"n": 1}, "metadata": metadata | changes}
    return parse_response(json.dumps({"request_id": "r", "data": data}).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"n": 1}},  # KV version 1
        {"data": {"data": {"n": 1}}},
        {"data": {"data": {"n": 1}, "metadata": {"version": 1}}},
        {"data": {"data": {}, "metadata": "x", "more": 1}},
        {"data": {"data": 1, "metadata": [1]}},
        {"auth": {"client_token": "t"}},
    ],
)
def test_other_responses_cannot_be_revalidated(body: dict[str, Any]) -> None:
    """KV version 2 responses are recognized by their shape."""
    assert not is_revalidatable(parse_response(json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (kv2_response(), True),
        (kv2_response(deletion_time="2030-01-01T00:00:00Z"), False),  # it will delete itself
        (kv2_response(destroyed=True), False),
        (kv2_response(something="new"), False),
    ],
)
def test_permanent_version_can_be_revalidated(found: VaultResponse, expected: bool) -> None:
    """A version with a deletion time or unknown metadata cannot."""
    assert expected is is_revalidatable(found)


@pytest.mark.parametrize(
    "found",
    [
        replace(kv2_response(), lease_id="secret/1"),
        replace(kv2_response(), warnings=("old",)),
        replace(kv2_response(), mount_type="kv"),
    ],
)
def test_response_with_other_envelope_fields_cannot_be_revalidated(found: VaultResponse) -> None:
    """Such as `mount_type` of HashiCorp Vault, which has no detailed list."""
    assert not is_revalidatable(found)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "x",
        {},
        {"current_version": 1},
        {"current_version": 1, "versions": {}},
        {"current_version": 1, "versions": {"1": None}},
        {"current_version": None, "versions": {"None": {}}},
        {"current_version": [1], "versions": {"1": {}}},
    ],
)
def test_malformed_list_entry_is_not_a_match(entry: Any) -> None:
    """A hostile or newer vault may send it."""
    body = json.dumps({"data": {"key_info": {"db": entry}}}).encode()
    entries = listed_entries(parse_response(body))
    assert entries is not None
    assert not is_unchanged(kv2_response(), entries.get("db"))


@pytest.mark.parametrize(
    "body", [b"", b'{"data": {"keys": ["db"]}}', b'{"data": {"key_info": [1]}}']
)
def test_response_without_entries_is_not_a_list(body: bytes) -> None:
    """A list of names revalidates nothing."""
    assert listed_entries(parse_response(body)) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("secret/data/db", KvSecret("secret", "", "db")),
        ("ns/team/secret/data/a/b/db", KvSecret("ns/team/secret", "a/b/", "db")),
        ("secret/data/data/db", KvSecret("secret", "data/", "db")),
        ("secret/data/db?version=1", None),
        ("secret/db", None),
        ("secret/data", None),
        ("data/db", None),
    ],
)
def test_folder_is_parsed_from_the_path(path: str, expected: KvSecret | None) -> None:
    """A path with a version number is not accepted."""
    assert expected == parse_kv_path(parse_api_path(path))


def test_list_request_is_a_get_with_a_limit() -> None:
    """The limit is one entry more than allowed, to detect a longer list."""
    nested, root = KvSecret("kv", "a/b/", "db"), KvSecret("kv", "", "db")
    assert "/v1/kv/detailed-metadata/a/b?limit=11&list=true" == nested.list_path(10).encoded
    assert "/v1/kv/detailed-metadata?limit=11&list=true" == root.list_path(10).encoded


@pytest.mark.parametrize(("held", "expected"), [(0, 0), (1, 0), (2, 10), (20, 190), (1000, 400)])
def test_list_may_have_ten_entries_for_each_saved_read(held: int, expected: int) -> None:
    """At most the number of entries that fit into a response."""
    assert expected == max_list_entries(held)
