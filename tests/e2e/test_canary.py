"""Secret values and tokens appear only in volumes, Secrets and the data of the vault."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
import yaml

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from keyferry.records import replace
from tests.e2e.canaries import search, search_folder
from tests.e2e.node import MACHINE, NAMESPACE, Driver, Node, Volume, running_node
from tests.fakes.devvault import CloseMidResponse, RespondStatus

APP = "22222222-0000-4000-8000-000000000002"
WORKLOAD = "33333333-0000-4000-8000-000000000003"
SUBJECT = f"system:serviceaccount:{NAMESPACE}:web"

VALUE = "canary-value-6d1f0c9be2"
ROTATED = "canary-rotated-84a7d35c10"
CLIENT_SECRET = "canary-client-secret-0b7e92f4"
WRONG_SECRET = "canary-wrong-secret-5a60c8d3"
BAD_TOKEN = "canary-token-that-is-none-e1947b"
CANARIES = (VALUE, ROTATED, CLIENT_SECRET, WRONG_SECRET, BAD_TOKEN)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose vault contains canaries and writes its access log."""
    async with running_node(tmp_path) as node:
        node.vault.set_secret("contoso", "db-password", VALUE)
        node.vault.add_app(APP, secret=CLIENT_SECRET)
        node.vault.add_app(WORKLOAD, secret=None)
        node.vault.federate(WORKLOAD, subject=SUBJECT)
        for who in (MACHINE, APP, WORKLOAD):
            node.vault.grant("contoso", who)
        yield node


@pytest.mark.timeout(300)  # failures are retried with the real backoff
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_secrets_and_tokens_do_not_leak(watched: Node, log_format: str) -> None:
    """Publish, refresh, every kind of failure and the command line, at the highest verbosity."""
    node = watched
    write_classes(node)
    driver = await node.start_driver(
        "-v=10",
        f"--log-format-json={'true' if log_format == 'json' else 'false'}",
        "--enable-secret-rotation",
        "--rotation-poll-interval=0",
        "--cache-ttl=0",  # each failure comes from the vault
        "--negative-cache-ttl=0",
    )
    volumes = volumes_of_each_identity(node)
    for volume in volumes:
        await driver.publish(volume)
        assert {"db": (0o644, VALUE.encode())} == volume.files()
    node.vault.set_secret("contoso", "db-password", ROTATED)
    for volume in volumes:
        await driver.publish(volume)
        assert {"db": (0o644, ROTATED.encode())} == volume.files()
    assert {"db-password": ROTATED.encode()} == node.secret("machine")
    errors = await failures(node, driver, volumes)
    metrics = await asyncio.to_thread(page, f"http://{driver.metrics}/metrics")
    await command_line(node)
    for volume in volumes:
        await driver.unpublish(volume)
    await driver.stop()

    assert b"sync_k8s_secret_total" in metrics
    surroundings = [child.surroundings for child in node.children.all]
    assert all(surroundings)
    for text in (*surroundings, metrics, *(error.encode() for error in errors)):
        assert [] == search(text, CANARIES), text
    allowed = [
        node.pods,
        node.vault.data.folder,
        node.manifests / "secrets",
        node.folder / "inputs",
        node.folder / "laptop" / "secrets",
        node.folder / "laptop" / "volume",
    ]
    assert [] == search_folder(node.folder, CANARIES, but=allowed)
    events = list((node.manifests / "events").rglob("*.yaml"))
    assert events, "the failures recorded no events, so no event text was checked"


def write_classes(node: Node) -> None:
    """Write a SecretProviderClass for each identity, and three that the values do not fit."""
    paths = {"db-password": "db"}
    node.write_class("machine", paths, secret="machine")
    node.write_class("principal", paths, sign_in={})
    node.write_class("workload", paths, sign_in={"clientID": WORKLOAD})
    node.write_class("hex", paths, fields={"db-password": {"objectEncoding": "hex"}})
    node.write_class("base64", paths, fields={"db-password": {"objectEncoding": "base64"}})
    node.write_class("tls", paths, secret="tls", secret_type="kubernetes.io/tls")


def volumes_of_each_identity(node: Node) -> list[Volume]:
    """Return volumes of the managed identity, a service principal and a service account."""
    credentials = {"clientid": APP, "clientsecret": CLIENT_SECRET}
    tokens = node.vault.service_account_token(SUBJECT)
    return [
        node.volume("machine"),
        node.volume("principal", secrets=credentials),
        node.volume("workload", context={SERVICE_ACCOUNT_TOKENS: tokens}),
    ]


async def failures(node: Node, driver: Driver, volumes: list[Volume]) -> list[str]:
    """Make every stage fail, at a first mount and at a refresh; return the errors."""
    machine, principal, workload = volumes
    wrong = {"clientid": APP, "clientsecret": WRONG_SECRET}
    late = f"system:serviceaccount:{NAMESPACE}:late"
    expired = {
        SERVICE_ACCOUNT_TOKENS: node.vault.service_account_token(late, lifetime_seconds=-600),
        SERVICE_ACCOUNT: "late",
    }
    node.vault.federate(WORKLOAD, subject=late)
    stranger = node.vault.service_account_token("system:serviceaccount:shop:stranger")
    errors = [
        await refused(driver, new)
        for new in (
            node.volume("hex"),
            node.volume("base64"),
            node.volume("principal", secrets=wrong),
            node.volume("principal", secrets={"clientid": BAD_TOKEN}),
            node.volume("workload", context={SERVICE_ACCOUNT_TOKENS: BAD_TOKEN}),
            node.volume("workload", context={SERVICE_ACCOUNT_TOKENS: token_json(BAD_TOKEN)}),
            node.volume("workload", context=expired),
            node.volume("workload", context={SERVICE_ACCOUNT_TOKENS: stranger}),
        )
    ]
    for action in (RespondStatus(500), RespondStatus(403), CloseMidResponse()):
        node.vault.add_fault("contoso.vault.azure.net", action, times=None)
        errors.append(await refused(driver, node.volume("machine", pod="web-1")))
        await driver.publish(machine)
        node.vault.clear_faults()
        await publish_after_outage(driver, node.volume("machine", pod="web-after"))
    node.vault.revoke("contoso", MACHINE)
    errors.append(await refused(driver, node.volume("machine", pod="web-2")))
    node.vault.grant("contoso", MACHINE)
    await driver.publish(replace(principal, secrets=wrong))
    await driver.publish(replace(workload, context=expired))
    tls = node.volume("tls", pod="web-3")
    await driver.publish(tls)
    await driver.unpublish(tls)
    return errors


async def publish_after_outage(driver: Driver, volume: Volume) -> None:
    """Publish once the circuit breaker allows requests again, then unpublish."""
    async with asyncio.timeout(200):
        while True:
            try:
                await driver.publish(volume)
                break
            except grpc.aio.AioRpcError as error:
                if "circuit breaker is open" not in str(error.details()):
                    raise
                await asyncio.sleep(0.5)
    await driver.unpublish(volume)


async def refused(driver: Driver, volume: Volume) -> str:
    """Return code and details of a publish that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.publish(volume)
    return f"{caught.value.code()} {caught.value.details()}"


async def command_line(node: Node) -> None:
    """Run every command that handles a value."""
    data = ("--data", str(node.vault.data.folder))
    run = node.children.run
    await run("set", "keyferry", "devvault", "set", "contoso", "other", *data, stdin=VALUE)
    await run("get", "keyferry", "devvault", "get", "contoso", "other", *data)
    for words in (("list", "contoso"), ("identity", "list"), ("policy", "contoso"), ("status",)):
        await run(words[0], "keyferry", "devvault", *words, *data)
    inputs, laptop = node.folder / "inputs", node.folder / "laptop"
    inputs.mkdir()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "credentials"},
        "data": {
            "clientid": base64.b64encode(APP.encode()).decode(),
            "clientsecret": base64.b64encode(CLIENT_SECRET.encode()).decode(),
        },
    }
    (inputs / "credentials.yaml").write_text(yaml.safe_dump(secret))
    (inputs / "tokens.json").write_text(node.vault.service_account_token(SUBJECT))
    dev = ("--dev-vault", str(node.vault.data.folder), "--secrets-dir", str(laptop))
    target = str(laptop / "volume")
    for flags in (
        ("machine",),
        ("principal", "--credentials", str(inputs / "credentials.yaml")),
    ):
        path = str(node.manifests / f"{flags[0]}.yaml")
        await run("mount", "keyferry", "mount", path, target, *flags[1:], *dev)
        assert ROTATED == (laptop / "volume" / "db").read_text()
        await run("unmount", "keyferry", "unmount", target, "--secrets-dir", str(laptop))


def token_json(token: str) -> str:
    """Return the volume attribute with service account tokens, as kubelet writes it."""
    expiry = "2126-01-01T00:00:00Z"
    return json.dumps(
        {"api://AzureADTokenExchange": {"token": token, "expirationTimestamp": expiry}}
    )


def page(url: str) -> bytes:
    """Return the body of a page."""
    with urlopen(url) as response:
        content: bytes = response.read()
    return content


@pytest.mark.parametrize(
    "hidden",
    [
        VALUE.encode(),
        VALUE.encode().hex().encode(),
        base64.b64encode(VALUE.encode()),
        base64.b64encode(b"x" + VALUE.encode() + b"y"),
        base64.b64encode(b'{"value": "' + VALUE.encode() + b'"}'),
        base64.urlsafe_b64encode(b"??" + VALUE.encode() + b"??"),
    ],
)
def test_search_finds_a_canary_in_every_encoding(tmp_path: Path, hidden: bytes) -> None:
    """The leak test is meaningful only if the search recognises every encoding."""
    (tmp_path / "log").write_bytes(b"before " + hidden + b" after")
    assert [f"{tmp_path / 'log'}: {VALUE}"] == search_folder(tmp_path, CANARIES, but=[])
    assert [] == search_folder(tmp_path, CANARIES, but=[tmp_path / "log"])


def test_search_finds_any_signed_token() -> None:
    """The test does not know the access tokens, but all of them start the same."""
    assert ["a signed token"] == search(b"Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", [])
