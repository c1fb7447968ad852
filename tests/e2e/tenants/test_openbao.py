"""A real OpenBao server that the attacker and the victim share."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import pytest

from tests.e2e.cluster.certificates import Authority
from tests.e2e.tenants.arena import ATTACKER, VICTIM, VICTIM_VALUE
from tests.e2e.tenants.bao import ALONE, DB, OWN, BaoArena
from tests.e2e.vault.classes import entry
from tests.e2e.vault.engines import allow, enable_cert

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


async def test_tls_errors_of_own_settings_count_for_nobody_else(bao: BaoArena) -> None:
    """A wrong server name, and no CA: at a server that is healthy."""
    bao.put_bao_class(ATTACKER, "wrong-name", OWN, vaultTLSServerName="nobody.example")
    bao.put_bao_class(ATTACKER, "no-ca", OWN, vaultCACertPath="")
    pods = [bao.bao_pod(ATTACKER, name) for name in ("wrong-name", "no-ca") for _ in range(6)]
    async with bao.attack(victim=bao.bao_victim, after=ALONE):
        assert "" not in await bao.publish_repeatedly(pods, seconds=ALONE + 2)


async def test_rejected_logins_count_for_nobody_else(bao: BaoArena) -> None:
    """Wrong mounts, roles and namespaces, and plain HTTP at the port for TLS."""
    plain = bao.server.address.replace("https:", "http:")
    settings = {
        "plain-http": {"vaultAddress": plain},
        "wrong-mount": {"vaultAuthMountPath": "nowhere"},
        "wrong-role": {"roleName": "nobody"},
        "foreign-role": {"roleName": VICTIM},
        "no-namespace": {"vaultNamespace": "none"},
    }
    pods = []
    for name, parameters in settings.items():
        bao.put_bao_class(ATTACKER, name, OWN, **parameters)
        pods += [bao.bao_pod(ATTACKER, name) for _ in range(4)]
    async with bao.attack(victim=bao.bao_victim):
        assert "" not in await bao.publish_repeatedly(pods, seconds=3)


@pytest.mark.parametrize(("status", "alone"), [(503, ALONE), (429, 1)])
async def test_status_that_the_caller_chooses_counts_for_nobody_else(
    bao: BaoArena, status: int, alone: float
) -> None:
    """`sys/health` answers with the status of its query."""
    bao.put_bao_class(ATTACKER, "health", entry("a", f"sys/health?activecode={status}"))
    pods = [bao.bao_pod(ATTACKER, "health") for _ in range(12)]
    async with bao.attack(victim=bao.bao_victim, after=alone):
        await bao.publish_repeatedly(pods, seconds=alone + 2)


async def test_other_statuses_of_sys_paths_count_for_nobody_else(bao: BaoArena) -> None:
    """Every query of sys/health, with each method."""
    pods = []
    queries = ("activecode", "standbycode", "sealedcode", "uninitcode", "drsecondarycode")
    for number, query in enumerate(queries):
        for status in (408, 500, 502, 504, 999):
            name = f"health-{number}-{status}"
            paths = [
                f"sys/health?{query}={status}&activecode={status}",
                f"sys/seal-status?{query}={status}",
            ]
            objects = [entry(f"a{n}", path) for n, path in enumerate(paths)]
            bao.put_bao_class(ATTACKER, name, *objects)
            pods.append(bao.bao_pod(ATTACKER, name))
    async with bao.attack(victim=bao.bao_victim):
        await bao.publish_repeatedly(pods, seconds=3)


async def test_client_certificate_of_another_pod_cannot_be_used(bao: BaoArena) -> None:
    """The files of the victim's Secret volume, by their path on the node."""
    other = bao.victim.pod("bao")
    folder = bao.victim.folder_in_pod(other, "secret", "client-tls")
    files = await enable_cert(bao.server, Authority(bao.folder / "clients"), "victim", VICTIM)
    for name, text in files.items():
        (folder / name).write_text(text)
    link = bao.attacker.folder_in_pod(bao.attacker.pod("stolen"), name="link") / "tls"
    link.symlink_to(folder)
    results = set()
    logins = len(bao.server.audit.logins())
    async with bao.attack(victim=bao.bao_victim):
        for number, path in enumerate((folder, link, bao.class_files / ".." / folder)):
            for product in ("openbao", "vault"):
                bao.put_bao_class(
                    ATTACKER,
                    f"stolen-{product}-{number}",
                    DB,
                    vaultAuthMethod="kubernetes",
                    vaultAuthMountPath="cert",
                    roleName="victim",
                    **{
                        f"{product}TLSClientCertPath": f"{path}/tls.crt",
                        f"{product}TLSClientKeyPath": f"{path}/tls.key",
                    },
                )
                volume = bao.bao_pod(ATTACKER, f"stolen-{product}-{number}")
                results.add(await bao.publish(volume))
    assert "" not in results
    assert logins <= len(bao.server.audit.logins())
    by_certificate = [one for one in bao.server.audit.logins() if "auth/cert" in str(one)]
    assert [] == by_certificate


async def test_revoked_identity_gets_no_cached_value_by_its_own_failures(bao: BaoArena) -> None:
    """The circuit that the attacker opens itself does not keep its own revoked secret alive."""
    bao.put_bao_class(ATTACKER, "own", OWN)
    bao.put_bao_class(ATTACKER, "health", entry("a", "sys/health?activecode=503"))
    flags = ("--enable-secret-rotation", "--rotation-poll-interval=8s")
    async with bao.attack(*flags, victim=bao.bao_victim, after=12):
        assert "" == await bao.publish(bao.bao_pod(ATTACKER, "own", account="one"))
        await allow(bao.server, ATTACKER, "kv/nothing")
        failing = [bao.bao_pod(ATTACKER, "health", account="one") for _ in range(8)]
        results = []
        async with asyncio.TaskGroup() as group:
            attack = group.create_task(bao.publish_repeatedly(failing, seconds=12))
            await asyncio.sleep(8.5)  # more than an interval: from now on, the value is stale
            while not attack.done():
                results.append(await bao.publish(bao.bao_pod(ATTACKER, "own", account="one")))
                await asyncio.sleep(0.4)
        await allow(bao.server, ATTACKER, f"kv/{ATTACKER}")
    assert "" not in results


async def test_certificate_error_is_no_outage(bao: BaoArena) -> None:
    """A wrong certificate at the address of the vault: no Pod starts with a stale value."""
    bao.driver = await bao.start_driver("--enable-secret-rotation", "--rotation-poll-interval=2s")
    first = bao.bao_pod(VICTIM, "bao", account="web")
    assert "" == await bao.publish(first)
    foreign = Authority(bao.folder / "man-in-the-middle")
    certificate, key = foreign.issue("bao", user="bao", addresses=("127.0.0.1",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    parts = urlsplit(bao.server.address)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    await bao.server.stop()
    fake = await asyncio.start_server(answer, parts.hostname, parts.port, ssl=context)
    try:
        await asyncio.sleep(2.5)
        for _ in range(3):
            error = await bao.publish(bao.bao_pod(VICTIM, "bao", account="web"))
            assert "certificate" in error
            await asyncio.sleep(0.4)
        assert {"db": VICTIM_VALUE.encode()} == {
            path: content for path, (_, content) in first.files().items()
        }
    finally:
        fake.close()
        await fake.wait_closed()
        await bao.server.start()
        await bao.server.unseal()
    await bao.driver.stop()
