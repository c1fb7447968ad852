"""The status of a SecretSync after an attempt, and when it is not written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import ObjectVersion, SecretFile
from keyferry.errors import AccessDeniedError, KeyferryError, VaultUnavailableError
from keyferry.kubernetes.syncs.objects import (
    Condition,
    ConditionStatus,
    SecretSync,
    SyncedObject,
    SyncStatus,
)
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced, SyncFailed
from keyferry.providers.expiry import Expiry
from keyferry.records import replace
from keyferry.sync_controller.rules.decision import Marks
from keyferry.sync_controller.rules.status import (
    content_digest,
    failed_status,
    sync_hash,
    synced_status,
)
from tests.fakes.secret_syncs import content, secret_sync

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
MARKS = Marks(1, "class-uid/1", "x1", "a/b")
RESULT = content({"password": "canary"}, "v1")
DENIED = SyncFailed(AccessDeniedError("contoso denies access", "Grant get."), stalled=False)


def success(sync: SecretSync | None = None, **changes: Any) -> SyncStatus | None:
    """Return the status after a success."""
    arguments: dict[str, Any] = {
        "marks": MARKS,
        "digest": "kf1:1",
        "result": RESULT,
        "secret": "secret-uid/7",
        "holder": "",
        "now": NOON,
        "legacy": False,
        **changes,
    }
    synced = arguments.pop("synced", Synced(SyncChange.CREATED))
    return synced_status(sync or secret_sync(), synced, **arguments)


def failure(sync: SecretSync, error: KeyferryError | None = None, **changes: Any) -> Any:
    """Return the status after a failure."""
    failed = SyncFailed(error, stalled=False) if error else DENIED
    return failed_status(sync, failed, **{"now": LATER, "legacy": False, **changes})


def synced() -> SecretSync:
    """Return a SecretSync after its first success."""
    status = success()
    assert status is not None
    return secret_sync(status=status)


def short(status: SyncStatus) -> dict[str, str]:
    return {each.type: f"{each.status.value} {each.reason}" for each in status.conditions}


# --- success --------------------------------------------------------------------------------------


def test_status_records_what_the_next_process_needs() -> None:
    """It continues without a fetch."""
    status = success(holder="keyferry-sync-0")
    assert status is not None
    assert short(status)["Ready"] == "True SecretUpToDate"
    assert replace(status, conditions=()) == SyncStatus(
        observed_generation=1,
        sync_hash="kf1:1",
        last_success=NOON,
        last_attempt=NOON,
        objects=(SyncedObject("secret/password", "v1"),),
        observed_force="x1",
        observed_refresh="a/b",
        observed_class="class-uid/1",
        observed_secret="secret-uid/7",
        lease_holder="keyferry-sync-0",
    )
    assert "canary" not in repr(status)


def test_status_is_not_written_for_new_times() -> None:
    """Ten thousand SecretSyncs are refreshed every hour."""
    unchanged = Synced(SyncChange.UNCHANGED)
    assert success(synced(), now=LATER, synced=unchanged) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"marks": replace(MARKS, generation=2)},
        {"marks": replace(MARKS, force="x2")},
        {"marks": replace(MARKS, refresh="c")},
        {"marks": replace(MARKS, class_version="class-uid/2")},
        {"digest": "kf1:2"},
        {"secret": "secret-uid/8"},
        {"holder": "keyferry-sync-1"},
        {"result": content({"password": "canary"}, "v2")},
        {"synced": Synced(SyncChange.UNCHANGED, ("secret/user",))},
        {"synced": Synced(SyncChange.UNCHANGED, note="It is so.")},
    ],
    ids=str,
)
def test_status_is_written_for_anything_else(changes: dict[str, Any]) -> None:
    """With the times of that attempt."""
    status = success(synced(), now=LATER, **changes)
    assert status is not None
    assert (LATER, LATER) == (status.last_success, status.last_attempt)


def test_condition_of_another_writer_is_no_change() -> None:
    """It is kept."""
    theirs = Condition("Audited", ConditionStatus.TRUE, "Yes", transitioned_at=NOON)
    sync = synced()
    status = replace(sync.status, conditions=(*sync.status.conditions, theirs))
    sync = replace(sync, status=status)
    assert success(sync, now=LATER) is None
    changed = success(sync, now=LATER, digest="kf1:2")
    assert changed is not None
    assert theirs in changed.conditions


def test_missing_optional_objects_are_a_partial_sync() -> None:
    """The Secret is as good as it can be, so it is ready."""
    status = success(synced=Synced(SyncChange.CREATED, ("secret/user", "secret/more")))
    assert status is not None
    ready = status.condition("Ready")
    assert ready is not None
    assert (ConditionStatus.TRUE, "PartialSync") == (ready.status, ready.reason)
    assert ready.message == (
        "Secret lacks optional objects that do not exist: secret/user, secret/more."
    )


def test_objects_have_their_expiry() -> None:
    """Those whose expiry is known."""
    expiry = Expiry("secret password", 1_900_000_000, 0, "secret/password")
    result = content({"password": "1", "user": "2"}, expiries=(expiry,))
    status = success(result=result)
    assert status is not None
    assert (
        SyncedObject("secret/password", "v1", datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC)),
        SyncedObject("secret/user", "v1"),
    ) == status.objects


def test_success_clears_a_failure() -> None:
    """Also if nothing else changed."""
    sync = synced()
    failed = failure(sync)
    recovered = success(replace(sync, status=failed), synced=Synced(SyncChange.UNCHANGED))
    assert recovered is not None
    assert short(recovered) == short(sync.status)


# --- failure --------------------------------------------------------------------------------------


def test_failure_keeps_what_is_in_the_secret() -> None:
    """The Secret keeps its content, so the status keeps the versions."""
    sync = synced()
    status = failure(sync)
    assert short(status) == {
        "Ready": "False ProviderError",
        "Reconciling": "True ProgressingWithRetry",
        "SecretCreated": "True CreateSuccessful",
        "SecretUpdated": "False ProviderError",
    }
    kept = replace(status, conditions=sync.status.conditions, last_attempt=NOON)
    assert sync.status == kept
    assert LATER == status.last_attempt


def test_failure_of_a_new_generation_is_observed() -> None:
    """`kubectl wait` and Flux compare the generations."""
    sync = replace(synced(), generation=2)
    status = failure(sync)
    assert 2 == status.observed_generation
    assert {2} == {each.observed_generation for each in status.conditions}


def test_same_failure_is_not_written_again() -> None:
    """Each retry would be a write, and wake up everybody who watches."""
    sync = synced()
    failed = replace(sync, status=failure(sync))
    assert failure(failed, now=LATER + timedelta(hours=1)) is None
    other = failure(failed, AccessDeniedError("fabrikam denies access", "Grant get."))
    assert other is not None


def test_detail_of_a_failure_is_no_change() -> None:
    """It has times and counters."""
    sync = synced()

    def failed(detail: str) -> KeyferryError:
        error = VaultUnavailableError("contoso does not respond", "Check it.")
        error.add_detail(detail)
        return error

    first = failure(sync, failed("since 12:00"))
    assert first is not None
    again = failure(replace(sync, status=first), failed("since 12:01"))
    assert again is None


# --- syncHash -------------------------------------------------------------------------------------

VERSIONS = (ObjectVersion("secret/a", "1"), ObjectVersion("secret/b", "2"))


def test_hash_is_marked_as_one_of_keyferry() -> None:
    """Those of upstream begin with v1."""
    digest = sync_hash("uid", MARKS, VERSIONS)
    assert digest.startswith("kf1:")
    assert 36 == len(digest)


def test_hash_does_not_depend_on_the_order_of_objects() -> None:
    """Nor on what only asks for a refresh."""
    digest = sync_hash("uid", MARKS, VERSIONS)
    assert digest == sync_hash("uid", MARKS, VERSIONS[::-1])
    assert digest == sync_hash("uid", replace(MARKS, force="x2", refresh="z"), VERSIONS)


parts = st.tuples(
    st.text(max_size=3),
    st.integers(0, 20),
    st.text(max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
)


def digest_of(part: tuple[str, int, str, dict[str, str]]) -> str:
    uid, generation, class_version, versions = part
    marks = Marks(generation, class_version, "", "")
    return sync_hash(uid, marks, (ObjectVersion(*each) for each in versions.items()))


@given(parts, parts)
def test_hash_changes_with_everything_else(
    one: tuple[str, int, str, dict[str, str]], other: tuple[str, int, str, dict[str, str]]
) -> None:
    """No two different inputs run into each other."""
    assert (one == other) is (digest_of(one) == digest_of(other))


def test_texts_do_not_run_into_each_other() -> None:
    """Each is preceded by its length."""
    assert digest_of(("ab", 1, "c", {})) != digest_of(("a", 1, "bc", {}))
    assert digest_of(("a", 1, "c", {"x": "yz"})) != digest_of(("a", 1, "c", {"xy": "z"}))
    assert digest_of(("a", 1, "c", {"x": "\udcff"})) != digest_of(("a", 1, "c", {"x": "?"}))


# --- content of external providers ----------------------------------------------------------------

contents = st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=3)


@given(contents, contents)
def test_digest_of_content_changes_with_the_content(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    """And with the key, but not with the order of the files."""

    def digest(files: dict[str, bytes], key: bytes = b"key") -> bytes:
        return content_digest(key, [SecretFile(path, 0o644, data) for path, data in files.items()])

    assert (one == other) is (digest(one) == digest(other))
    assert digest(one) == digest(dict(reversed(one.items())))
    assert digest(one) != digest(one, b"another")
