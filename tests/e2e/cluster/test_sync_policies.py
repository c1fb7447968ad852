"""The chart's admission policies for the SecretSync controller, in a real API server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.secret_sync_api import (
    AUDIENCE,
    CONTROLLER,
    DRY_RUN,
    LABEL,
    NAMESPACE,
    OPT_IN,
    VALUES,
    Api,
    denied,
    owner,
    running_chart,
    secret,
    synced,
)
from tests.e2e.cluster.waiting import eventually
from tests.unit.chart.values import CHART, merged

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

DRIVER = "system:serviceaccount:kube-system:secrets-store-csi-driver"
ADOPT = {"keyferry.dev/adopt": "true"}
FOR_VAULT = ("--audience=vault",)
HOURLY = (*FOR_VAULT, "--duration=1h")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One API server with the chart for all tests of this module."""
    async with running_chart(tmp_path_factory.mktemp("api")) as running:
        await running.user("create", "--filename=-", stdin=secret("bare"))

        async def enforced() -> bool:
            """The API server loads policies and their parameters in the background."""
            assert "exactly one owner" in await denied(running.create(secret("web")))
            assert "not created by" in await denied(running.apply(synced("bare"), DRY_RUN))
            assert "another owner" in await denied(running.delete("bare"))
            assert "in 600 seconds" in await denied(running.token("web", *HOURLY))
            assert "does not permit" in await denied(running.token("other", *FOR_VAULT))
            await running.token("web", *FOR_VAULT)
            return True

        await eventually(enforced, "the policies")
        yield running


@pytest.mark.parametrize(
    "manifest",
    [
        synced("web"),
        synced("web", kind="kubernetes.io/tls"),
        synced("web", owners=[owner("web", api="secret-sync.gke.io/v1")]),
        synced("web", labels={**LABEL, "app": "web"}, annotations={"a": "b"}),
    ],
)
async def test_the_controller_creates_secrets_of_secret_syncs(api: Api, manifest: Document) -> None:
    """Of both groups, with permitted types."""
    assert "created" in await api.create(manifest)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (secret("web", labels=LABEL), "exactly one owner: the SecretSync with its name"),
        (synced("web", owners=[owner("web"), owner("b")]), "exactly one owner"),
        (synced("web", owners=[owner("other")]), "exactly one owner"),
        (synced("web", owners=[owner("web", kind="Secret")]), "exactly one owner"),
        (synced("web", owners=[owner("web", api="evil.io/v1")]), "exactly one owner"),
        (synced("web", owners=[owner("web", api="v1")]), "exactly one owner"),
        (secret("web", owners=[owner("web")]), "must have the label secrets-store.sync.x-k8s.io"),
        (
            synced("web", kind="example.com/other"),
            "the type example.com/other of the Secret is not permitted. Use another",
        ),
        (
            synced(
                "web",
                kind="kubernetes.io/service-account-token",
                annotations={"kubernetes.io/service-account.name": "web"},
            ),
            "Kubernetes fills Secrets of the type kubernetes.io/service-account-token",
        ),
    ],
)
async def test_the_controller_creates_no_other_secrets(
    api: Api, manifest: Document, said: str
) -> None:
    """The message says what to change. Others may create them, also the driver."""
    message = await denied(api.create(manifest))
    assert "ValidatingAdmissionPolicy 'keyferry-sync-secrets'" in message
    assert said in message
    assert "created" in await api.create(manifest, account=DRIVER)


async def test_the_pods_of_the_controller_are_permitted_everywhere(api: Api) -> None:
    """Also in a namespace that enforces the strictest Pod Security Standard."""
    await api.server.kubectl("create", "namespace", "strict")
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    await api.server.kubectl("label", "namespace", "strict", enforce)
    own = "--namespace=kube-system"
    pods = {}
    for kind, name in (("deployment", "keyferry-sync"), ("daemonset", "keyferry")):
        template = (await api.server.kubectl.get(kind, name, own))["spec"]["template"]
        account = template["spec"]["serviceAccountName"]
        await api.server.kubectl("create", "serviceaccount", account, "--namespace=strict")
        metadata = {**template["metadata"], "name": name, "namespace": "strict"}
        pods[kind] = {**template, "apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    create = ("create", DRY_RUN, "--filename=-")
    assert "created" in await api.server.kubectl(*create, stdin=json.dumps(pods["deployment"]))
    assert "violates PodSecurity" in await denied(
        api.server.kubectl(*create, stdin=json.dumps(pods["daemonset"]))
    )


async def test_permissions_end_at_the_listed_namespaces(api: Api) -> None:
    """Elsewhere the controller reads only SecretSyncs and SecretProviderClasses."""

    async def permitted(verb: str, kind: str, *flags: str) -> bool:
        question = ("auth", "can-i", verb, kind, f"--as={CONTROLLER}", *flags)
        try:
            return "yes" == (await api.server.kubectl(*question)).strip()
        except AssertionError:  # the exit code of no
            return False

    everywhere = "--all-namespaces"
    for group in ("secret-sync.x-k8s.io", "secret-sync.gke.io"):
        assert await permitted("watch", f"secretsyncs.{group}", everywhere)
        assert await permitted("patch", f"secretsyncs.{group}", everywhere, "--subresource=status")
        assert not await permitted("patch", f"secretsyncs.{group}", everywhere)
    assert await permitted("list", "secretproviderclasses", everywhere)
    for verb, kind, *flags in (
        ("list", "secrets"),
        ("create", "secrets"),
        ("list", "serviceaccounts"),
        ("create", "serviceaccounts", "--subresource=token"),
    ):
        assert not await permitted(verb, kind, *flags, "--namespace=default"), kind
        assert await permitted(verb, kind, *flags, f"--namespace={NAMESPACE}"), kind
    assert not await permitted("update", "lease/other", "--namespace=kube-system")
    assert await permitted("update", "lease/keyferry-sync", "--namespace=kube-system")


async def test_the_controller_updates_only_secrets_of_secret_syncs(api: Api) -> None:
    """Also if somebody removed the label, or the SecretSync was deleted with cascade=orphan."""
    foreign = owner("web", api="apps/v1", kind="Deployment")
    old = {
        "owned": synced("owned"),
        "gke": synced("gke", owners=[owner("gke", api="secret-sync.gke.io/v1")]),
        "unlabelled": secret("unlabelled", owners=[owner("unlabelled")]),
        "orphaned": secret("orphaned", labels=LABEL),
    }
    for name, manifest in old.items():
        await api.user("create", "--filename=-", stdin=manifest)
        owners = manifest["metadata"]["ownerReferences"] or [owner(name)]
        new = synced(name, owners=owners, value="two")
        assert "serverside-applied" in await api.apply(new), name
        assert "dHdv" == (await api.get("secret", name))["data"]["key"]
    refused = {
        "of-others": (synced("of-others", owners=[foreign]), "has another owner"),
        "renamed": (synced("renamed", owners=[owner("owned")]), "has another owner"),
        "unknown": (secret("unknown"), "was not created by a SecretSync"),
        "almost": (secret("almost", annotations={"keyferry.dev/adopt": "yes"}), "was not created"),
        "both": (synced("both", owners=[foreign], annotations=ADOPT), "has another owner"),
    }
    for name, (manifest, said) in refused.items():
        await api.user("create", "--filename=-", stdin=manifest)
        message = await denied(api.patch(synced(name, value="two")))
        assert "'keyferry-sync-secret-updates'" in message
        assert said in message, name
        assert "b25l" == (await api.get("secret", name))["data"]["key"]


async def test_a_secret_can_be_taken_over_with_the_consent_of_its_owner(api: Api) -> None:
    """The annotation can be set only by those who may write the Secret; the message has it."""
    await api.user("create", "--filename=-", stdin=secret("legacy"))
    message = await denied(api.apply(synced("legacy", value="two")))
    remedy = f"kubectl annotate --namespace {NAMESPACE} secret/legacy secretsync/legacy"
    assert f"{remedy} keyferry.dev/adopt=true" in message
    annotated = synced("legacy", value="two", annotations=ADOPT)
    assert "was not created" in await denied(api.apply(annotated))  # not by the controller itself
    await api.user("annotate", "secret/legacy", "keyferry.dev/adopt=true")
    await api.apply(synced("legacy", value="two"))
    taken = await api.get("secret", "legacy")
    assert ("dHdv", ["legacy"]) == (
        taken["data"]["key"],
        [each["name"] for each in taken["metadata"]["ownerReferences"]],
    )
    await api.user("annotate", "secret/legacy", "keyferry.dev/adopt-")
    await api.apply(synced("legacy", value="three"))


async def test_the_controller_deletes_only_secrets_that_it_created(api: Api) -> None:
    """Which it needs if the type changes."""
    made = {
        "mine": (synced("mine"), True),
        "no-label": (secret("no-label", owners=[owner("no-label")]), False),
        "no-owner": (secret("no-owner", labels=LABEL), False),
        "adoptable": (secret("adoptable", annotations=ADOPT), False),
        "of-another": (synced("of-another", owners=[owner("mine")]), False),
    }
    for name, (manifest, permitted) in made.items():
        await api.user("create", "--filename=-", stdin=manifest)
        if permitted:
            assert "deleted" in await api.delete(name)
        else:
            message = await denied(api.delete(name))
            assert "Delete it yourself; the controller then creates it" in message, name
        assert "deleted" in await api.delete(name, account=DRIVER)


async def test_tokens_are_short_and_for_one_audience(api: Api) -> None:
    """Of the list, and bound to no object."""
    for each in ("vault", AUDIENCE):
        assert 3 == len((await api.token("web", f"--audience={each}")).split("."))
    audience = f"exactly one of these audiences: {AUDIENCE}, vault. Add the audience to secretSync"
    refused: list[tuple[tuple[str, ...], str]] = [
        (("--audience=other",), audience),
        (("--audience=vault", f"--audience={AUDIENCE}"), audience),
        ((), audience),
        ((*FOR_VAULT, "--duration=601s"), "must expire in 600 seconds"),
        ((*FOR_VAULT, "--duration=0s"), "must expire in 600 seconds"),
        ((*FOR_VAULT, "--bound-object-kind=Secret", "--bound-object-name=bare"), "is bound to an"),
    ]
    for flags, said in refused:
        message = await denied(api.token("web", *flags))
        assert "'keyferry-sync-tokens'" in message
        assert said in message
    assert await api.user("create", "token", "web", "--duration=1h")


async def test_service_accounts_must_opt_in(api: Api) -> None:
    """With the label; each account decides for itself."""
    message = await denied(api.token("other", *FOR_VAULT))
    assert "'keyferry-sync-token-opt-in'" in message
    remedy = f"kubectl label --namespace {NAMESPACE} serviceaccount other {OPT_IN}=true"
    assert (
        f"the service account other does not permit SecretSyncs to use it. Permit it: {remedy}"
        in message
    )
    await api.user("label", "serviceaccount", "other", f"{OPT_IN}=false")
    assert "does not permit" in await denied(api.token("other", *FOR_VAULT))
    await api.user("label", "--overwrite", "serviceaccount", "other", f"{OPT_IN}=true")
    # No account is left that the binding selects: there is nothing to deny.
    await eventually(lambda: api.token("other", *FOR_VAULT), "the token of other")
    assert await api.token("web", *FOR_VAULT)
    await api.user("label", "serviceaccount", "web", f"{OPT_IN}-")

    async def withdrawn() -> bool:
        return "does not permit" in await denied(api.token("web", *FOR_VAULT))

    await eventually(withdrawn, "the refusal of web")
    assert await api.token("other", *FOR_VAULT)
    await api.user("label", "serviceaccount", "web", f"{OPT_IN}=true")
    await api.user("label", "serviceaccount", "other", f"{OPT_IN}-")
    await eventually(lambda: api.token("web", *FOR_VAULT), "the token of web")


async def test_tokens_can_be_bound_to_a_node(api: Api) -> None:
    """With tokenBinding=node, and to no other object."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
    await api.user("create", "--filename=-", stdin=node)
    bound = (*FOR_VAULT, "--bound-object-kind=Node", "--bound-object-name=node-1")
    assert "secretSync.tokenBinding=none" in await denied(api.token("web", *bound))
    changed = merged(VALUES, {"secretSync": {"tokenBinding": "node"}})
    await api.helm("upgrade", "keyferry", str(CHART), values=changed)
    await eventually(lambda: api.token("web", *bound), "a token for a node")
    pod = (*FOR_VAULT, "--bound-object-kind=Secret", "--bound-object-name=bare")
    assert "secretSync.tokenBinding=node" in await denied(api.token("web", *pod))
    await api.helm("upgrade", "keyferry", str(CHART))

    async def again() -> bool:
        return "tokenBinding=none" in await denied(api.token("web", *bound))

    await eventually(again, "the policy without nodes")
