"""KvListing: which cache entries the list of a folder may revalidate."""

from __future__ import annotations

from typing import cast

import pytest

from keyferry.providers.vault.auth.token import VaultToken
from keyferry.providers.vault.http.response import VaultResponse, parse_response
from keyferry.providers.vault.leases.lease import LeaseOrigin, ReadResult
from keyferry.providers.vault.read.client import VaultClient
from keyferry.providers.vault.read.kv_list import KvSecret
from keyferry.providers.vault.read.revalidation import KvListing
from keyferry.records import replace
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext

BODY = b"""{"data": {"data": {"n": 1}, "metadata": {"created_time": "t", "custom_metadata": null,
    "deletion_time": "", "destroyed": false, "version": 1}}}"""
WEB = IdentityKey("jwt", ("vault", "web"))
DB = CacheKey("vault", WEB, ("GET", "secret/data/app/db", ""))


def client(context: CallContext) -> VaultClient:
    raise AssertionError("nobody is asked")


FOLDER = KvListing(client, DB, KvSecret("secret", "app/", "db"))


def read_result(response: VaultResponse) -> ReadResult:
    """Return a cached response; token and origin do not matter."""
    token = VaultToken("t", 0, 0.0, renewable=False)
    return ReadResult(response, token, cast("LeaseOrigin", None), None, session_shared=False)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (DB, True),
        (DB._replace(resource=("GET", "secret/data/app/other", "")), True),
        # Each identity is answered for itself, and each vault.
        (DB._replace(identity=IdentityKey("jwt", ("vault", "admin"))), False),
        (DB._replace(vault="elsewhere"), False),
        (DB._replace(resource=("GET", "secret/data/app/deep/db", "")), False),
        (DB._replace(resource=("GET", "secret/data/db", "")), False),
        (DB._replace(resource=("GET", "second/data/app/db", "")), False),
        (DB._replace(resource=("GET", "secret/data/app/db", "version=1")), False),
        (DB._replace(resource=("POST", "secret/data/app/db", "", "{}")), False),
        (FOLDER.list_key, False),
    ],
)
def test_list_covers_current_versions_of_one_folder_and_identity(
    key: CacheKey, expected: bool
) -> None:
    """The current versions, and nothing else."""
    assert expected is FOLDER.covers(key, read_result(parse_response(BODY)))


def test_list_does_not_cover_other_responses() -> None:
    """A cached list, and a secret with a deletion time."""
    assert not FOLDER.covers(DB, frozenset({DB}))
    ends = BODY.replace(b'"deletion_time": ""', b'"deletion_time": "2030-01-01T00:00:00Z"')
    assert not FOLDER.covers(DB, read_result(parse_response(ends)))


def test_each_identity_has_its_own_list() -> None:
    """Identities may have different permissions."""
    other = replace(FOLDER, key=DB._replace(identity=IdentityKey("jwt", ("vault", "admin"))))
    assert other.list_key != FOLDER.list_key
