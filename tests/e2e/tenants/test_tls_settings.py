"""TLS settings of the attacker at a real OpenBao server that it shares with the victim."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.certificates import Authority
from tests.e2e.node import Volume
from tests.e2e.tenants.arena import ATTACKER, VICTIM, VICTIM_VALUE
from tests.e2e.tenants.bao import ALONE, DB, OWN, BaoArena
from tests.e2e.tenants.hostile_keys import certificate_pem, key_pem
from tests.e2e.tenants.processes import descriptors_of, memory_of

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


async def test_client_certificate_that_the_server_rejects_counts_for_nobody_else(
    bao: BaoArena,
) -> None:
    """At the listener that requires client certificates, the attacker has none or a foreign one."""
    certificate, key = bao.server.authority.issue("victim", user="victim")
    for path in (certificate, key):
        shutil.copy(path, bao.class_files / path.name)
    mutual = {
        "vaultAddress": bao.server.mutual_address,
        "vaultTLSClientCertPath": str(bao.class_files / certificate.name),
        "vaultTLSClientKeyPath": str(bao.class_files / key.name),
    }
    bao.put_bao_class(VICTIM, "mutual", DB, **mutual)
    foreign = Authority(bao.folder / "foreign")
    for path in foreign.issue("foreign", user="foreign"):
        shutil.copy(path, bao.class_files / path.name)
    for path in bao.class_files.iterdir():
        path.chmod(0o644)  # the provider worker reads them as another user
    paths = {
        "vaultTLSClientCertPath": str(bao.class_files / "foreign.crt"),
        "vaultTLSClientKeyPath": str(bao.class_files / "foreign.key"),
    }
    none = dict.fromkeys(paths, "")
    bao.put_bao_class(ATTACKER, "none", OWN, **{**mutual, **none})
    bao.put_bao_class(ATTACKER, "foreign", OWN, **{**mutual, **paths})
    pods = [bao.bao_pod(ATTACKER, name) for name in ("none", "foreign") for _ in range(8)]

    def victim() -> tuple[Volume, dict[str, bytes]]:
        return bao.bao_pod(VICTIM, "mutual"), {"db": VICTIM_VALUE.encode()}

    async with bao.attack(victim=victim, after=ALONE):
        assert "" not in await bao.publish_repeatedly(pods, seconds=ALONE + 2)


@pytest.mark.parametrize("what", ["names", "certificates"])
async def test_many_tls_settings_need_bounded_memory(bao: BaoArena, what: str) -> None:
    """Two hundred server names, or two hundred client certificates, of one tenant."""
    certificates = [client_certificate() for _ in range(200)] if what == "certificates" else []
    method = "cert" if certificates else "jwt"
    bao.put_bao_class(ATTACKER, "settings", OWN, vaultAuthMethod=method, vaultSkipTLSVerify="true")
    volumes = []
    for number in range(200):
        context = {SERVICE_ACCOUNT_TOKENS: bao.signer.kubelet_json(ATTACKER, "web")}
        if not certificates:
            context["vaultTLSServerName"] = f"name-{number}.example"
        secrets = certificates[number] if certificates else {}
        volumes.append(bao.attacker.pod("settings", context=context, secrets=secrets))
    async with bao.attack(victim=bao.bao_victim):
        pid = bao.driver.child.pid
        before = memory_of(pid), descriptors_of(pid)
        for start in range(0, len(volumes), 50):
            await asyncio.gather(*(bao.publish(volume) for volume in volumes[start : start + 50]))
        after = memory_of(pid), descriptors_of(pid)
    memory = f"memory {before[0] >> 20} to {after[0] >> 20} MiB"
    bao.show(f"{memory}, descriptors {before[1]} to {after[1]}")
    assert after[0] - before[0] < 60 << 20
    assert after[1] - before[1] < 100


def client_certificate() -> dict[str, str]:
    """Return the data of a Secret with a client certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    return {"tls.crt": certificate_pem(key), "tls.key": key_pem(key)}
