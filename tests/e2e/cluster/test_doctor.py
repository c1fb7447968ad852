"""`keyferry doctor` on a real cluster: from this machine's rights, inside the driver's pod."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.streams import ExecFailedError, ExecRequest, open_streams
from tests.e2e.cluster.installation import NAMESPACE
from tests.e2e.cluster.manifests import VAULT, azure_class, pod
from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.side_by_side import scenario
from tests.fakes.cli import CommandResult, run_cli

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

CLIENT = "22222222-0000-4000-8000-0000000000d1"
CANARY = "canary-3b0e77aa"


async def doctor(shop: Namespace, *arguments: str) -> CommandResult:
    """Run the command as an administrator; no output has a value or a token."""
    kubeconfig = shop.installed.cluster.kubeconfig
    done = await run_cli(
        "doctor", *arguments, f"--kubeconfig={kubeconfig}", f"--namespace={shop.name}"
    )
    assert CANARY not in done.stdout + done.stderr
    assert "eyJ" not in done.stdout + done.stderr
    return done


async def report(shop: Namespace, *arguments: str) -> dict[str, Any]:
    """Return the only report of the command."""
    done = await doctor(shop, *arguments, "-o", "json")
    assert done.stdout, done.stderr
    (found,) = json.loads(done.stdout)
    return dict(found)


@scenario("doctor")
async def test_doctor_from_the_node_names_the_broken_stage(shop: Namespace) -> None:
    """It works, then the service account is another one, then the object is disabled."""
    vault, kubectl = shop.installed.vault, shop.installed.kubectl
    issuer = shop.installed.cluster.server.address.url
    vault.data.identities.add_issuer(issuer, await kubectl("get", "--raw", "/openid/v1/jwks"))
    vault.add_app(CLIENT, secret=None)
    vault.federate(CLIENT, subject="system:serviceaccount:doctor:web", issuer=issuer)
    vault.set_secret(VAULT, "doctor", CANARY)
    vault.grant(VAULT, CLIENT, "get")
    for name in ("web", "stranger"):
        await shop.kubectl("create", "serviceaccount", name)
    await shop.apply(
        azure_class("web", {"doctor": "file"}, clientID=CLIENT),
        pod("web", "web", serviceAccountName="web"),
        pod("stranger", "web", serviceAccountName="stranger"),
    )
    await shop.ready("web")
    works = await report(shop, "pod/web", "--from=node")
    assert works["ok"], works
    token = next(each["facts"] for each in works["checks"] if each["stage"] == "token")
    assert (issuer, "system:serviceaccount:doctor:web") == (token["issuer"], token["subject"])
    stages = {each["stage"] for each in works["checks"]}
    assert {"tcp", "tls", "token-endpoint", "vault", "object", "rendering"} <= stages

    refused = await doctor(shop, "pod/stranger", "--from=node")
    assert 3 == refused.exit_code
    assert "Broken: token-endpoint of login.microsoftonline.com." in refused.stdout
    assert "system:serviceaccount:doctor:stranger" in refused.stdout

    vault.disable(VAULT, "doctor")
    broken = await report(shop, "spc/web", "--service-account=web", "--from=node")
    assert ("object", "secret doctor") == (broken["brokenStage"], broken["brokenSubject"])


@scenario("doctor-streams")
async def test_commands_and_ports_of_the_driver_pod_are_reached(shop: Namespace) -> None:
    """With the API server and kubelet of this release: input, output, exit code and a port."""
    config = load_config(shop.installed.cluster.kubeconfig)
    driver = await shop.installed.driver_pod()
    name = driver["metadata"]["name"]
    (container,) = (each for each in driver["spec"]["containers"] if "livenessProbe" in each)
    port = container["livenessProbe"]["httpGet"]["port"]
    if not isinstance(port, int):
        port = next(each["containerPort"] for each in container["ports"] if each["name"] == port)
    request = partial(ExecRequest, NAMESPACE, name, container["name"])
    probe = ("keyferry", "doctor", "--probe")
    async with open_streams(config) as streams:
        version = await streams.run(request(("keyferry", "version")))
        assert 0 == version.exit_code
        assert version.stdout.startswith(b"version")
        invalid = await streams.run(request(probe, stdin=b"x" * 300_000))
        assert 2 == invalid.exit_code
        assert b"not a probe request" in invalid.stderr
        with pytest.raises(ExecFailedError):
            await streams.run(request(("no-such-program",)))
        async with streams.connect(NAMESPACE, name, port) as connection:
            await connection.send(b"GET /healthz HTTP/1.0\r\nHost: keyferry\r\n\r\n")
            answer = b""
            while part := await connection.receive():
                answer += part
        assert answer.startswith(b"HTTP/1."), answer[:100]
        assert b" 200 " in answer.splitlines()[0]
