"""Writing the Secret of a SecretSync, whatever others did to it before."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import SecretConflictError, SecretNotManagedError, StoreError
from keyferry.kubernetes.api.secret_store import SecretStore
from keyferry.kubernetes.markings import SYNC_LABEL, SYNC_MARKING
from keyferry.kubernetes.object_codec import secret_manifest
from keyferry.kubernetes.objects import ApplyOutcome, DesiredSecret, OwnerReference, SyncClaim
from keyferry.records import replace
from tests.fakes.kube_memory import MemoryApi

KEY = "secrets", "shop", "db"
FORMER_MANAGER = "v1-secrets-store-sync-controller"
EDITOR = "kubectl-edit"

uids = st.sampled_from(["sync-1", "sync-2"])
values = st.sampled_from([b"canary", b"2"])
texts = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"]))


@st.composite
def desired_secrets(draw: st.DrawFn) -> DesiredSecret:
    """What a SecretSync may want."""
    owner = OwnerReference("secret-sync.x-k8s.io/v1alpha1", "SecretSync", "db", draw(uids))
    return DesiredSecret(
        "shop",
        "db",
        draw(st.sampled_from(["Opaque", "Opaque", "example.com/own"])),
        draw(st.dictionaries(st.sampled_from("abc"), values, min_size=1)),
        draw(texts),
        draw(texts),
        (owner,),
        claim=SyncClaim(owner, adopt=draw(st.booleans())),
    )


deleted = st.none()
edits = st.one_of(
    st.fixed_dictionaries(
        {"data": st.dictionaries(st.sampled_from("abz"), st.sampled_from(["aGFuZA=="]) | deleted)}
    ),
    st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries(
                {
                    "labels": st.dictionaries(
                        st.sampled_from(["x", "z", SYNC_LABEL]), st.just("hand") | deleted
                    )
                }
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries(
                {
                    "ownerReferences": st.lists(
                        st.builds(lambda uid: {"$patch": "delete", "uid": uid}, uids)
                        | st.just({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod"}),
                        max_size=1,
                    )
                }
            )
        }
    ),
    st.just({"immutable": True}),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("sync"), desired_secrets()),
        st.tuples(st.just("edit"), edits),
        st.tuples(st.just("upstream"), desired_secrets()),
        st.tuples(st.just("delete"), st.none()),
    ),
    max_size=6,
)


async def act(api: MemoryApi, store: SecretStore, kind: str, change: Any) -> None:
    """Do what a step says, as far as the API permits it."""
    exists = KEY in api.objects.stored
    match kind:
        case "sync":
            await store.apply_secret(change)
        case "edit" if exists and not (is_immutable(api) and "data" in change):
            api.objects.merge(KEY, change, EDITOR)
        case "upstream" if not exists:
            api.objects.apply(
                KEY, secret_manifest(change, change.owners), FORMER_MANAGER, force=False
            )
        case "delete" if exists:
            api.objects.delete(KEY)


def is_immutable(api: MemoryApi) -> bool:
    return bool(api.objects.manifest(KEY).get("immutable"))


def foreign_keys(api: MemoryApi) -> set[str]:
    """Return the keys that somebody else added."""
    if KEY not in api.objects.stored:
        return set()
    owned = api.objects.stored[KEY].owned_paths.get(f"{EDITOR}:update", set())
    return {path[1] for path in owned if path[0] == "data"}


@given(steps, desired_secrets())
def test_a_written_secret_is_as_desired_and_is_not_written_again(
    history: list[tuple[str, Any]], desired: DesiredSecret
) -> None:
    """Whatever happened before. Keys of others stay, and the SecretSync is the only owner."""

    async def run() -> None:
        api = MemoryApi()
        store = SecretStore(api)
        for kind, step in history:
            try:
                await act(api, store, kind, step)
            except StoreError:
                continue
        others = foreign_keys(api) - desired.data.keys()
        try:
            written = await store.apply_secret(desired)
        except (SecretNotManagedError, SecretConflictError):
            return
        live = await store.find_secret("shop", "db", marking=SYNC_MARKING)
        assert live is not None
        assert (live.uid, live.resource_version) == (written.uid, written.resource_version)
        assert desired.type == live.type
        assert desired.owners == live.owners
        assert desired.all_labels.items() <= live.labels.items()
        assert desired.annotations.items() <= live.annotations.items()
        expected = secret_manifest(desired, ())["data"]
        assert isinstance(expected, dict)
        assert expected.items() <= live.data.items()
        if written.outcome not in {ApplyOutcome.RECREATED, ApplyOutcome.CREATED}:
            assert others <= live.data.keys()
        assert live.data.keys() <= expected.keys() | others
        assert not live.former_managers
        api.calls.clear()
        for claim in (desired.claim, SyncClaim(desired.owners[0], is_unchanged=True)):
            again = await store.apply_secret(replace(desired, claim=claim))
            assert ApplyOutcome.UNCHANGED is again.outcome
        assert not api.writes

    asyncio.run(run())
