"""What is done for a SecretSync: refusals, triggers, and which comes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import AuthorError, ClassInvalidError, ClassNotFoundError, KeyferryError
from keyferry.kubernetes.syncs.objects import (
    Condition,
    ConditionStatus,
    SecretSync,
    ServiceAccountOptIn,
    SyncOptions,
    SyncStatus,
)
from keyferry.kubernetes.syncs.sync_errors import SyncInvalidError, TokenRequestError
from keyferry.records import replace
from keyferry.sync_controller.rules.decision import (
    Decision,
    Facts,
    Ignore,
    LastSync,
    Marks,
    Refuse,
    Sync,
    Trigger,
    UpToDate,
    decide,
    last_sync_of,
)
from keyferry.sync_controller.rules.refusals import NamespaceNotListedError
from keyferry.sync_controller.settings import Scope
from tests.fakes.secret_syncs import secret_sync, sync_class

SPC = sync_class()
SYNC = secret_sync()
MARKS = Marks.of(SYNC, SPC)
SECRET = "secret-uid/7"
LAST = LastSync(MARKS, SYNC.options, SECRET, is_stale=False, next_at=3600.0)
CLASS_ERROR = ClassInvalidError("SecretProviderClass shop/vault: it is so", "Do this.")


def facts(**changes: Any) -> Facts:
    """Return what is known of a SecretSync whose Secret is right."""
    known = Facts(
        sync=SYNC,
        spc=SPC,
        secret=SECRET,
        opt_in=None,
        requires_opt_in=False,
        last=LAST,
        lost_lease=False,
        now=100.0,
    )
    return replace(known, **changes)


def decision(scope: Scope | None = None, **changes: Any) -> Decision:
    return decide(facts(**changes), scope or Scope())


def refusal(scope: Scope | None = None, **changes: Any) -> KeyferryError:
    found = decision(scope, **changes)
    assert isinstance(found, Refuse)
    return found.error


def trigger(**changes: Any) -> Trigger | None:
    match decision(**changes):
        case Sync(spc, found):
            assert spc == changes.get("spc", SPC)
            return found
        case UpToDate():
            return None
        case other:
            raise AssertionError(other)


def test_secret_that_is_right_needs_nothing() -> None:
    """Until its next refresh."""
    assert UpToDate(3600.0) == decision()
    assert UpToDate(None) == decision(last=replace(LAST, next_at=None), now=1e9)


# --- whose it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "name", "handles"),
    [
        (Scope(), "", True),
        (Scope(), "keyferry", True),
        (Scope(), "other", False),
        (Scope(is_default=False), "", False),
        (Scope(is_default=False), "keyferry", True),
        (Scope("blue"), "blue", True),
        (Scope("blue"), "keyferry", False),
        (Scope("blue"), "", True),
    ],
)
def test_secret_syncs_of_another_controller_are_ignored(
    scope: Scope, name: str, handles: bool
) -> None:
    """Two controllers must not fight for one Secret."""
    found = decision(scope, sync=secret_sync(secretSyncControllerName=name))
    assert handles is not isinstance(found, Ignore)


def test_secret_sync_that_is_being_deleted_is_ignored() -> None:
    """Its Secret must not be written again, and its status helps nobody."""
    assert Ignore() == decision(sync=secret_sync(terminating=True), last=None)
    assert Ignore() == decision(Scope(namespaces=frozenset()), sync=secret_sync(terminating=True))


# --- refusals -------------------------------------------------------------------------------------


def test_namespace_that_is_not_listed_is_refused() -> None:
    """The remedy names the value of the chart."""
    error = refusal(Scope(namespaces=frozenset({"other"})))
    assert isinstance(error, NamespaceNotListedError)
    assert error.problem == "the controller may not write Secrets in namespace 'shop'"
    assert error.remedy == (
        "Add the namespace to secretSync.namespaces of the chart (flag --namespaces)."
    )
    assert UpToDate(3600.0) == decision(Scope(namespaces=frozenset({"shop"})))


def test_invalid_secret_sync_is_refused() -> None:
    """With the field."""
    error = refusal(sync=secret_sync(serviceAccountName=""))
    assert isinstance(error, SyncInvalidError)
    assert error.problem == "spec.serviceAccountName is not set"


def test_missing_class_is_refused() -> None:
    """It may be in another namespace."""
    error = refusal(spc=None)
    assert isinstance(error, ClassNotFoundError)
    assert "shop/vault" in error.problem
    assert error.remedy == (
        "Create it in the namespace of the SecretSync, or correct secretProviderClassName."
    )


def test_invalid_class_is_refused_with_a_new_error() -> None:
    """Many SecretSyncs share the cached one."""
    error = refusal(spc=CLASS_ERROR)
    assert isinstance(error, ClassInvalidError)
    assert error is not CLASS_ERROR
    assert (CLASS_ERROR.problem, CLASS_ERROR.remedy) == (error.problem, error.remedy)


@pytest.mark.parametrize(
    ("opt_in", "problem"),
    [
        (None, "service account shop/web does not exist, or does not allow SecretSyncs to use it"),
        (
            ServiceAccountOptIn("shop", "web", frozenset({"other"})),
            "service account shop/web does not allow the SecretSync web to use it",
        ),
    ],
)
def test_service_account_without_opt_in_is_refused(
    opt_in: ServiceAccountOptIn | None, problem: str
) -> None:
    """Only if the controller requires the opt-in."""
    error = refusal(requires_opt_in=True, opt_in=opt_in)
    assert isinstance(error, TokenRequestError)
    assert error.problem == problem
    assert UpToDate(3600.0) == decision(opt_in=opt_in)


@pytest.mark.parametrize("only", [None, frozenset({"web", "other"})])
def test_service_account_that_opted_in_is_used(only: frozenset[str] | None) -> None:
    """For all SecretSyncs of the namespace, or for those that it lists."""
    opt_in = ServiceAccountOptIn("shop", "web", only)
    assert UpToDate(3600.0) == decision(requires_opt_in=True, opt_in=opt_in)


def test_first_refusal_counts() -> None:
    """Where several apply, the user reads the one that hides the others."""
    invalid = secret_sync(serviceAccountName="")
    scope = Scope(namespaces=frozenset())
    everything: dict[str, Any] = {"sync": invalid, "spc": None, "requires_opt_in": True}
    assert isinstance(refusal(scope, **everything), NamespaceNotListedError)
    assert isinstance(refusal(**everything), SyncInvalidError)
    assert isinstance(refusal(spc=None, requires_opt_in=True), ClassNotFoundError)
    assert isinstance(refusal(spc=CLASS_ERROR, requires_opt_in=True), ClassInvalidError)


# --- triggers -------------------------------------------------------------------------------------


def test_new_secret_sync_is_synced_first() -> None:
    """Also if it asks for a refresh already."""
    assert Trigger.FIRST is trigger(last=None)
    asking = secret_sync(forceSynchronization="x", annotations={"keyferry.dev/refresh": "1"})
    assert Trigger.FIRST is trigger(last=None, sync=asking, secret="", lost_lease=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"sync": secret_sync(forceSynchronization="x2")},
        {"sync": secret_sync(annotations={"keyferry.dev/refresh": "now"})},
        {"spc": sync_class(refresh_mark="now")},
    ],
    ids=["field", "annotation", "annotation of the class"],
)
def test_request_is_answered(changes: dict[str, Any]) -> None:
    """Any new value asks, and the same value does not ask again."""
    assert Trigger.REQUESTED is trigger(**changes)
    found = facts(**changes)
    assert found.spc is not None
    assert not isinstance(found.spc, ClassInvalidError)
    answered = replace(LAST, marks=Marks.of(found.sync, found.spc), options=found.sync.options)
    assert trigger(**changes, last=answered) is None


def test_removed_request_is_one_too() -> None:
    """It is a new value."""
    asked = replace(LAST, marks=replace(MARKS, force="x1"))
    assert Trigger.REQUESTED is trigger(last=asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"sync": secret_sync(generation=2)},
        {"spc": sync_class(generation=2)},
        {"spc": sync_class(version="other-uid/1")},
    ],
    ids=["spec", "class", "class created again"],
)
def test_change_of_the_objects_is_synced(changes: dict[str, Any]) -> None:
    """At once, and not with the next refresh."""
    assert Trigger.CHANGED is trigger(**changes)


@pytest.mark.parametrize(
    "annotation",
    [
        {"keyferry.dev/refresh-interval": "10m"},
        {"keyferry.dev/refresh-interval": "never"},
        {"keyferry.dev/credentials-secret": "login"},
        {"keyferry.dev/drift": "ignore"},
        {"keyferry.dev/adopt": "true"},
    ],
    ids=str,
)
def test_change_of_an_annotation_is_synced(annotation: dict[str, str]) -> None:
    """Annotations do not change the generation."""
    changed = secret_sync(annotations=annotation)
    assert changed.generation == SYNC.generation
    assert Trigger.CHANGED is trigger(sync=changed)
    assert Trigger.CHANGED is trigger(last=replace(LAST, options=changed.options))
    assert trigger(sync=changed, last=replace(LAST, options=changed.options)) is None


def test_failed_attempt_is_repeated() -> None:
    """Whatever the time of the next refresh."""
    assert Trigger.RETRY is trigger(last=replace(LAST, is_stale=True, next_at=None))


@pytest.mark.parametrize("secret", ["", "secret-uid/8", "other-uid/7"])
def test_change_of_the_secret_is_drift(secret: str) -> None:
    """Deleted, edited, or created again."""
    assert Trigger.DRIFT is trigger(secret=secret)


def test_unknown_secret_is_no_drift() -> None:
    """Its namespace is not listed yet."""
    assert trigger(secret=None) is None


def test_secret_that_was_left_out_is_expected_to_be_absent() -> None:
    """Another one of that name with the label is not."""
    left_out = replace(LAST, secret="")
    assert trigger(last=left_out, secret="") is None
    assert Trigger.DRIFT is trigger(last=left_out)


def test_lost_lease_is_replaced() -> None:
    """Before the dynamic secret expires."""
    assert Trigger.LEASE is trigger(lost_lease=True)


@pytest.mark.parametrize(
    ("now", "expected"), [(3599.9, None), (3600.0, Trigger.DUE), (9e9, Trigger.DUE)]
)
def test_refresh_is_due(now: float, expected: Trigger | None) -> None:
    """From its time on."""
    assert expected is trigger(now=now)


def test_first_trigger_counts() -> None:
    """The order is that of `Trigger`, of which only a request needs newer content."""
    applies: dict[Trigger, dict[str, Any]] = {
        Trigger.FIRST: {"last": None},
        Trigger.REQUESTED: {"sync": secret_sync(forceSynchronization="x2")},
        Trigger.CHANGED: {"spc": sync_class(generation=2)},
        Trigger.DRIFT: {"secret": ""},
        Trigger.RETRY: {"last": replace(LAST, is_stale=True)},
        Trigger.LEASE: {"lost_lease": True},
        Trigger.DUE: {"now": 1e6},
    }
    assert list(Trigger) == list(applies)
    for expected in applies:
        later = list(applies)[list(applies).index(expected) :]
        changes: dict[str, Any] = {}
        for each in reversed(later):
            changes |= applies[each]
        assert expected is trigger(**changes)


# --- what the status records ----------------------------------------------------------------------


def status(*, ready: ConditionStatus = ConditionStatus.TRUE, **changes: Any) -> SyncStatus:
    made = SyncStatus(
        conditions=(Condition("Ready", ready, "SecretUpToDate"),),
        observed_generation=1,
        sync_hash="kf1:x",
        observed_force="f",
        observed_refresh="a/b",
        observed_class=SPC.version,
        observed_secret=SECRET,
    )
    return replace(made, **changes)


def recorded(sync: SecretSync) -> LastSync:
    found = last_sync_of(sync, next_at=7.0)
    assert found is not None
    return found


def test_last_sync_of_an_earlier_process_is_continued() -> None:
    """Nothing is fetched only because the controller was restarted."""
    sync = secret_sync(
        forceSynchronization="f", annotations={"keyferry.dev/refresh": "a"}, status=status()
    )
    spc = sync_class(refresh_mark="b")
    last = recorded(sync)
    assert LastSync(Marks.of(sync, spc), sync.options, SECRET, False, 7.0) == last
    assert trigger(sync=sync, spc=spc, last=last, now=6.0) is None


@pytest.mark.parametrize("ready", [ConditionStatus.FALSE, ConditionStatus.UNKNOWN])
def test_failed_sync_of_an_earlier_process_is_repeated(ready: ConditionStatus) -> None:
    """Its retry was lost with the process."""
    assert recorded(secret_sync(status=status(ready=ready))).is_stale
    assert recorded(secret_sync(status=status(conditions=()))).is_stale


@pytest.mark.parametrize(
    "empty", [SyncStatus(), status(sync_hash=""), status(observed_class="", sync_hash="v1:abc")]
)
def test_secret_sync_without_a_record_is_new(empty: SyncStatus) -> None:
    """Also if upstream's controller synced it: what it answered is unknown."""
    assert last_sync_of(secret_sync(status=empty), next_at=None) is None


# --- invariants -----------------------------------------------------------------------------------


def _built(
    kind: Callable[..., object], *args: st.SearchStrategy[Any], **kwargs: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """`st.builds` for a struct, whose annotations Hypothesis would resolve."""

    def build(*given: Any, **named: Any) -> object:
        return kind(*given, **named)

    return st.builds(build, *args, **kwargs)


namespaces = st.sampled_from(["shop", "bank", "kube-system"])
lasts = st.none() | _built(
    LastSync,
    _built(Marks, st.integers(0, 2), st.sampled_from([SPC.version, ""]), st.text(), st.text()),
    st.just(SYNC.options) | st.just(SyncOptions(adopts=True)),
    st.sampled_from([SECRET, ""]),
    st.booleans(),
    st.none() | st.floats(0, 10),
)
syncs = st.builds(
    secret_sync,
    namespace=namespaces,
    generation=st.integers(1, 2),
    terminating=st.booleans(),
    secretSyncControllerName=st.sampled_from(["", "keyferry", "other"]),
    serviceAccountName=st.sampled_from(["web", ""]),
    forceSynchronization=st.sampled_from(["", "x"]),
)
all_facts = _built(
    Facts,
    sync=syncs,
    spc=st.sampled_from([SPC, None, CLASS_ERROR]),
    secret=st.sampled_from([SECRET, "", None]),
    opt_in=st.sampled_from([None, ServiceAccountOptIn("shop", "web")]),
    requires_opt_in=st.booleans(),
    last=lasts,
    lost_lease=st.booleans(),
    now=st.floats(0, 10),
)
scopes = _built(
    Scope,
    st.sampled_from(["keyferry", "blue"]),
    st.booleans(),
    st.none() | st.frozensets(namespaces),
)


@given(all_facts, scopes)
def test_only_what_is_permitted_is_synced(known: Facts, scope: Scope) -> None:
    """In a listed namespace, for its own controller, with a valid class, and after an opt-in."""
    found = decide(known, scope)
    sync = known.sync
    if isinstance(found, Sync | UpToDate):
        assert scope.lists(sync.ref.namespace)
        assert scope.handles(sync.controller_name)
        assert not sync.terminating
        assert sync.invalid is None
        assert known.spc is SPC
        assert not known.requires_opt_in or known.opt_in is not None
    if isinstance(found, UpToDate):
        assert known.last is not None
        assert not known.last.is_stale
        assert Marks.of(sync, SPC) == known.last.marks
    if isinstance(found, Refuse):
        assert isinstance(found.error, AuthorError | NamespaceNotListedError | TokenRequestError)
    if isinstance(found, Ignore):
        assert sync.terminating or not scope.handles(sync.controller_name)
