"""`expiryWarning`, from the class to the warning: driver, command, provider."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from keyferry.net.grpc_server import serving_grpc
from keyferry.net.http_client import HttpsClient
from keyferry.net.sockets import parse_endpoint
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.providers.server import add_provider
from keyferry_devvault.http_types import RequestKind
from keyferry_devvault.model import SecretAttributes
from tests.fakes.cli import run_cli, start_cli
from tests.fakes.devvault import DEFAULT_TENANT, CertificateSpec, DevVault, running_devvault
from tests.fakes.driver import running_driver
from tests.fakes.keyvault_peer import entry
from tests.fakes.log import captured_log
from tests.fakes.resilience import uncached_fetcher

CLIENT = "11111111-0000-4000-8000-000000000001"
VAULT = "contoso"
DAY = 86_400
OBJECTS = json.dumps({"array": [
    entry("secret", "old"), entry("secret", "ending"), entry("secret", "lasting"),
    entry("cert", "web"), entry("secret", "web", objectAlias="bundle", expiryWarning="0"),
]})  # fmt: skip
PARAMETERS = {
    "keyvaultName": VAULT,
    "tenantID": DEFAULT_TENANT,
    "useVMManagedIdentity": "true",
    "userAssignedIdentityID": CLIENT,
    "expiryWarning": "3000d",
    "objects": OBJECTS,
}
SERIES = "keyferry_objects_near_expiry"
SOON, EXPIRED = "provider=azure state=soon", "provider=azure state=expired"


class Ends:
    """A vault whose objects end at these times."""

    def __init__(self, vault: DevVault) -> None:
        self.vault = vault
        now = int(time.time())
        self.old, self.ending, self.lasting = now - DAY, now + DAY, now + 3100 * DAY
        for name in ("old", "ending", "lasting"):
            self.set_secret(name, getattr(self, name))
        vault.create_certificate(VAULT, "web", CertificateSpec(kind="EC"))
        vault.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        vault.grant(VAULT, CLIENT, "get", "list")

    def set_secret(self, name: str, expires: int) -> None:
        attributes = SecretAttributes(expires=expires)
        self.vault.data.vaults.ensure(VAULT)
        self.vault.data.secrets.set(VAULT, name, "canary", attributes)

    @property
    def sentences(self) -> list[str]:
        """What is to be heard, in the order of the class."""
        behind_web = self.vault.data.secrets.get(VAULT, "web").expires
        assert behind_web is not None
        return [
            f"secret old expired on {day(self.old)}",
            f"secret ending expires on {day(self.ending)}",
            f"cert web expires on {day(behind_web)}",
        ]


def day(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    async with running_devvault(tmp_path) as vault:
        yield Ends(vault)


@pytest.fixture
async def provider(ends: Ends) -> AsyncIterator[AzureProvider]:
    made = AzureProvider(
        HttpsClient(ends.vault.emulator.https), uncached_fetcher(), emulator=ends.vault.emulator
    )
    yield made
    await made.close()


async def test_driver_records_an_event_and_counts(
    mount_home: Path, ends: Ends, provider: AzureProvider
) -> None:
    """One event; a gauge that follows a rotation and the end of the volume."""
    async with running_driver(
        mount_home, built_in={"azure": provider}, rotation_interval=60.0
    ) as driver:
        driver.write_class("web", provider="azure", parameters=PARAMETERS)
        await driver.publish("web")
        words = "; ".join(ends.sentences)
        expected = ("Warning", "ObjectNearExpiry", f"of spc shop/web: {words}")
        assert [expected] == driver.events()
        assert {SOON: 2.0, EXPIRED: 1.0} == driver.metric_values(SERIES)

        ends.set_secret("old", ends.lasting)
        driver.clock.now += 61
        await driver.publish("web")
        assert {SOON: 2.0, EXPIRED: 0.0} == driver.metric_values(SERIES)

        await driver.unpublish()
        assert {SOON: 0.0, EXPIRED: 0.0} == driver.metric_values(SERIES)


def write_class(folder: Path) -> Path:
    """The class as a file."""
    manifest = {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": "web"},
        "spec": {"provider": "azure", "parameters": PARAMETERS},
    }
    path = folder / "class.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return path


@pytest.mark.usefixtures("mount_home")
async def test_the_command_warns_and_succeeds(tmp_path: Path, ends: Ends) -> None:
    """The files are there; what ends is on standard error, no value with it."""
    target = tmp_path / "target"
    done = await run_cli(
        "mount", write_class(tmp_path), target, "--dev-vault", tmp_path / "devvault"
    )
    assert (0, [f"warning: {words}" for words in ends.sentences]) == (
        done.exit_code,
        done.stderr.splitlines()[1:],  # after the notice that this is a development vault
    )
    assert "canary" == (target / "ending").read_text()
    await run_cli("unmount", target)


@pytest.mark.usefixtures("mount_home")
async def test_the_command_does_not_repeat_a_warning_with_every_refresh(
    tmp_path: Path, ends: Ends
) -> None:
    """With --watch once, then again when something else ends, or after an hour."""
    target = tmp_path / "target"
    process = await start_cli(
        *("mount", write_class(tmp_path), target, "--watch", "--interval", "50ms"),
        *("--dev-vault", tmp_path / "devvault"),
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(50):
            assert b"DEVELOPMENT ONLY" in await process.stderr.readline()
            first = [(await process.stderr.readline()).decode() for _ in ends.sentences]
            asked = ends.vault.count(RequestKind.SECRET)
            while ends.vault.count(RequestKind.SECRET) < asked + 20:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # refreshes that say nothing
            ends.set_secret("lasting", ends.old)
            news = [(await process.stderr.readline()).decode() for _ in range(4)]
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
        await run_cli("unmount", target)
    assert [f"warning: {words}\n" for words in ends.sentences] == first
    assert f"warning: secret lasting expired on {day(ends.old)}\n" in news


async def test_a_provider_on_a_socket_logs_it_once(
    tmp_path: Path, ends: Ends, provider: AzureProvider
) -> None:
    """The protocol has no place for it; a second pod is no news."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/azure.sock")
    caller = ExternalProvider("azure", tmp_path / "azure.sock", max_receive_bytes=1 << 22)
    pod = {POD_NAME: "web-0", POD_NAMESPACE: "shop"}
    with captured_log() as log:
        async with serving_grpc(
            endpoint, lambda server: add_provider(server, provider, name="azure")
        ):
            results = await asyncio.gather(
                *(caller.mount(MountCall(PARAMETERS | pod)) for _ in range(2))
            )
            await caller.close()
    assert [5, 5] == [len(result.files) for result in results]
    assert [1, 1, 1] == [log.getvalue().count(words) for words in ends.sentences]
    assert 3 == log.getvalue().count(" UTC")
