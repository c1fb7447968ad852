"""Files and sockets of the node that a SecretProviderClass names."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.node import Volume
from tests.e2e.tenants.arena import KUBELET_SECONDS, UNANSWERED, Arena
from tests.e2e.vault.classes import entry

VALUE = entry("a", "value/a", "value")
PARAMETERS: tuple[Mapping[str, str], ...] = (
    {"vaultCACertPath": "{path}"},
    {"vaultCADirectory": "{folder}"},
    {"vaultTLSClientCertPath": "{path}", "vaultTLSClientKeyPath": "{path}"},
    {"openbaoCACertPath": "{path}"},
    {"baoCADirectory": "{folder}"},
    {"openbaoTLSClientCertPath": "{path}", "openbaoTLSClientKeyPath": "{path}"},
)
"""The parameters that name a file or a folder."""


def pods_that_name(arena: Arena, kind: str, *, retries: int = 1) -> list[Volume]:
    """Return Pods whose SecretProviderClasses name special files in an emptyDir of the Pod."""
    volumes = []
    for number, parameters in enumerate(PARAMETERS):
        name = f"names-{kind}-{number}"
        provider = "openbao" if any("bao" in key for key in parameters) else "vault"
        for _ in range(retries):
            volume = arena.attacker.pod(name)
            folder = arena.attacker.folder_in_pod(volume)
            make_special_file(folder, kind)
            volumes.append(volume)
            filled = {
                key: text.format(path=folder / "special", folder=folder)
                for key, text in parameters.items()
            }
            arena.attacker.put_class(
                name,
                VALUE,
                provider=provider,
                parameters={"vaultAddress": "https://127.0.0.1:1", **filled},
            )
    return volumes


def make_special_file(folder: Path, kind: str) -> None:
    """Create `special`, as the process of a Pod can in its emptyDir."""
    path = folder / "special"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            os.mkfifo(folder / "fifo")
            path.symlink_to("fifo")
        case "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
        case "endless":
            path.symlink_to("/dev/zero")
        case "huge":
            with path.open("wb") as stream:
                stream.truncate(10 << 30)


async def test_special_file_in_a_path_parameter_delays_nobody(arena: Arena) -> None:
    """Each kind in each parameter, with retries; each retry used to keep a thread for ever."""
    kinds = ("fifo", "link", "socket", "endless", "huge")
    volumes = [one for kind in kinds for one in pods_that_name(arena, kind, retries=2)]
    async with arena.attack():
        results = await arena.publish_repeatedly(volumes, seconds=4, answer=KUBELET_SECONDS)
    assert "" not in results
    assert UNANSWERED not in results


async def test_unpublish_works_while_a_path_parameter_names_a_fifo(arena: Arena) -> None:
    """Volumes that existed before the attack are unmounted during it."""
    async with arena.attack():
        volumes = [arena.victim_volume()[0] for _ in range(3)]
        assert ["", "", ""] == [await arena.publish(volume) for volume in volumes]
        attack = asyncio.create_task(
            arena.publish_repeatedly(pods_that_name(arena, "fifo", retries=2), seconds=2.5)
        )
        await asyncio.sleep(1.0)
        assert ["", "", ""] == [await arena.unpublish(volume) for volume in volumes]
        await attack


async def test_errors_do_not_reveal_which_files_exist(arena: Arena) -> None:
    """All errors about a path parameter are equal, whatever the path leads to."""
    arena.attacker.put_class("oracle", VALUE, parameters={"vaultAddress": "https://127.0.0.1:1"})
    pem = arena.folder / "pods" / "other-pod" / "volumes" / "kubernetes.io~secret" / "tls"
    pem.mkdir(parents=True)
    (pem / "tls.crt").write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    paths = [
        "/etc/shadow",
        "/root/.ssh/id_rsa",
        "/nonexistent",
        "/etc",
        "/dev/null",
        "/proc/1/environ",
    ]
    paths += [
        str(pem / "tls.crt"),
        str(pem / "none"),
        "/etc/../etc/passwd",
        "relative",
        "/etc/ssl/../shadow",
    ]
    async with arena.attack():
        for parameters in PARAMETERS:
            texts = set()
            for path in paths:
                values = dict.fromkeys(parameters, path)
                text = await arena.publish(arena.attacker.pod("oracle", context=values))
                texts.add(text.replace(path, "PATH"))
            assert 1 == len(texts), texts
            assert "" not in texts


async def test_unix_socket_of_another_pod_is_not_reachable(arena: Arena) -> None:
    """A unix:// address comes from flags only. Existing and missing sockets give one error."""
    other = arena.victim.pod("honest")
    folder = arena.victim.folder_in_pod(other, name="a")
    requests = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readline())
        writer.close()

    path = folder / "a"
    server = await asyncio.start_unix_server(agent, path)
    try:
        async with arena.attack():
            texts = []
            for each in (path, folder / "b"):
                arena.attacker.put_class(
                    "agent", VALUE, parameters={"vaultAddress": f"unix://{each}"}
                )
                text = await arena.publish(arena.attacker.pod("agent"))
                texts.append(text.replace(str(each), "PATH"))
    finally:
        server.close()
        await server.wait_closed()
    assert [] == requests
    assert texts[0]
    assert texts[0] == texts[1]
