"""`keyferry status` and `keyferry refresh` of SecretSyncs, with a real Kubernetes API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.cluster.manifests import azure_class
from tests.e2e.cluster.sync_namespace import SyncNamespace, secret_sync
from tests.e2e.cluster.sync_scenarios import sync_scenario
from tests.e2e.cluster.waiting import eventually
from tests.fakes.cli import CommandResult, run_cli

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

MANUAL = {"refresh_interval": "never"}


def pod(name: str) -> dict[str, Any]:
    """A pod that has the Secret `web` in its environment; no kubelet starts it."""
    container = {"name": "c", "image": "none", "envFrom": [{"secretRef": {"name": "web"}}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container]},
    }


async def set_started(shop: SyncNamespace, name: str, moment: str) -> None:
    """Report that the container of a pod runs, as kubelet does."""
    status = {"name": "c", "state": {"running": {"startedAt": moment}}, "ready": True}
    counters = {"restartCount": 0, "image": "none", "imageID": ""}
    patch = {"status": {"containerStatuses": [{**status, **counters}]}}
    await shop.world.server.kubectl(
        *("patch", "pod", name, f"--namespace={shop.name}", "--subresource=status"),
        *("--type=merge", f"--patch={json.dumps(patch)}"),
    )


async def keyferry(shop: SyncNamespace, command: str, *more: str, user: str = "") -> CommandResult:
    """Run a command as an administrator, or as a user without permissions."""
    server = shop.world.server
    path = server.kubeconfig_of(user) if user else server.kubeconfig
    return await run_cli(command, f"--kubeconfig={path}", f"--namespace={shop.name}", *more)


async def rows(shop: SyncNamespace, *more: str) -> list[dict[str, Any]]:
    """Return what `keyferry status` shows."""
    done = await keyferry(shop, "status", "-o", "json", *more)
    assert (0, "") == (done.exit_code, done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@sync_scenario("commands")
async def test_a_secret_sync_is_shown_and_refreshed(shop: SyncNamespace) -> None:
    """Its version, its users with the age of their environment, and why a refresh fails."""
    shop.world.set_secret("commands")
    await shop.apply(azure_class("web", {"commands": "db"}))
    await shop.apply(secret_sync("web", {"password": "db"}), pod("early"), pod("late"))
    await shop.annotate("SecretSync", "web", **MANUAL)
    await shop.ready("web")
    (first,) = await rows(shop)
    assert ("web", "secret/commands", "True", "") == tuple(
        first[key] for key in ("secretSync", "object", "ready", "problem")
    )

    value = shop.world.set_secret("commands")
    done = await keyferry(shop, "refresh", "secretsync/web", "--wait")
    assert (0, "") == (done.exit_code, done.stderr)
    assert "secretsync/web annotated\nsecretsync/web refreshed\n" == done.stdout
    await shop.secret_has("web", {"password": value})
    (second,) = await rows(shop, "secretsync/web")
    assert first["version"] != second["version"]
    value = shop.world.set_secret("commands")
    done = await keyferry(shop, "refresh", "web", "--wait")
    assert "secretproviderclass/web annotated\nsecretsync/web refreshed\n" == done.stdout
    await shop.secret_has("web", {"password": value})

    await set_started(shop, "early", "2020-01-01T00:00:00Z")
    await set_started(shop, "late", "2099-01-01T00:00:00Z")
    users = await rows(shop, "--by", "secret")
    assert {"web"} == {user["secret"] for user in users}
    assert {"secretsync/web"} == {user["definedBy"] for user in users}
    environments = {user["name"]: user["environment"] for user in users}
    assert {"early": "old", "late": "current"} == environments

    await shop.apply(azure_class("web", {"no-such-object": "db"}))
    failed = await shop.failed("web", reason="ProviderError")
    message = next(
        each["message"] for each in failed["status"]["conditions"] if each["type"] == "Ready"
    )
    done = await keyferry(shop, "refresh", "secretsync/web", "--wait", "--timeout=2s")
    assert 4 == done.exit_code
    assert f"error: secretsync/web is not refreshed after 2 s: {message}\n" == done.stderr
    assert [message] == [row["problem"] for row in await rows(shop)]


@sync_scenario("commands-denied")
async def test_a_missing_permission_is_named(shop: SyncNamespace) -> None:
    """The API answers 403 also for a kind that it does not know."""
    done = await keyferry(shop, "status", user="nobody")
    assert 1 == done.exit_code
    assert "warning: secretsyncs.secret-sync.x-k8s.io cannot be listed" in done.stderr
    assert "hint: Ask for the verb list on secretproviderclasspodstatuses" in done.stderr
    await shop.world.server.kubectl(
        *("create", "role", "reader", f"--namespace={shop.name}", "--verb=list"),
        "--resource=secretproviderclasspodstatuses",
    )
    await shop.world.server.kubectl(
        *("create", "rolebinding", "reader", f"--namespace={shop.name}"),
        *("--role=reader", "--user=nobody"),
    )

    async def permitted() -> CommandResult:
        done = await keyferry(shop, "status", user="nobody")
        assert 0 == done.exit_code, done.stderr
        return done

    done = await eventually(permitted, "the API server to read the rules")
    assert "no pod has a volume of the driver" in done.stderr
    assert "warning: secretsyncs.secret-sync.x-k8s.io cannot be listed" in done.stderr
