"""A victim whose key must be read for each of its Pods: it fills a Secret of type TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.node import Volume
from tests.e2e.tenants import hostile_keys as keys
from tests.e2e.tenants.arena import Arena
from tests.e2e.vault.classes import entry

VICTIMS_KEY = ec.generate_private_key(ec.SECP256R1())


def tls_secret(name: str, key: str) -> list[Mapping[str, object]]:
    """Return a Secret of type kubernetes.io/tls that is filled from one file."""
    data = [{"objectName": name, "key": "tls.crt"}, {"objectName": key, "key": "tls.key"}]
    return [{"secretName": f"tls-{name}", "type": "kubernetes.io/tls", "data": data}]


def tls_victim(arena: Arena) -> Callable[[], tuple[Volume, dict[str, bytes]]]:
    """Return a victim that needs a key of its own to be read for each Pod."""
    content = keys.certificate_pem(VICTIMS_KEY) + keys.key_pem(VICTIMS_KEY)
    (arena.files / "honest.pem").write_text(content)
    arena.victim.put_class(
        "honest-tls",
        entry("honest", "file/honest.pem", "value"),
        secret_objects=tls_secret("honest", "honest"),
    )
    pods = iter(range(1 << 30))

    def volume() -> tuple[Volume, dict[str, bytes]]:
        secrets = {"token": f"token-{next(pods)}"}
        return arena.victim.pod("honest-tls", secrets=secrets), {"honest": content.encode()}

    return volume
