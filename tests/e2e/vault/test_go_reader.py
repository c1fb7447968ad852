"""Whole responses compared byte for byte with HashiCorp's Go client library.

`go_reader` is a small program that uses the library. It shows how Go treats paths, queries, numbers
and characters.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import Mapping

import pytest

from tests.e2e.node import BareNode, files_below
from tests.e2e.vault.classes import class_spec, entry
from tests.e2e.vault.engines import allow, jwt_role, put_kv
from tests.e2e.vault.programs import go_reader
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

VALUES: Mapping[str, object] = {
    "letters": 'Größe \u2603 \U0001f600 <&> "quoted" \\ / \u2028\u2029 \x7f \x01 \b\f\n\r\t',
    "numbers": [0, -1, 10, 1.5, 12345678901234567890, 1e300, 1e-7, 1.0],
    "nothing": None,
    "truth": [True, False],
    "nested": {"z": {"b": [], "a": {}}, "Z": "", "ä": [None, [1]]},
    "": "a key without a name",
    "data": "text under the key of KV version 2",
}
PATHS = (
    "kv1/shapes",
    "/v1/kv1/shapes",
    "v1/kv1/shapes",
    "/kv1/shapes",
    "kv1//shapes",
    "kv1/./shapes",
    "kv1/shapes/",
    "kv1/a b+c",
    "kv1/ä",
    "kv1/folder/deep",
    "kv2/data/shapes",
    "kv2/data/shapes?version=1",
    "kv2/data/shapes?version=1&unknown=a%20b+c",
    "kv2/metadata/shapes",
    "kv1?list=true",
    "kv2/metadata?list=true",
)


async def test_whole_responses_equal_those_of_the_go_library(
    node: BareNode, vault: VaultServer, signer: TokenSigner
) -> None:
    """Their keys, order and spelling, for all spellings of a path."""
    for path in ("kv1/shapes", "kv1/a%20b+c", "kv1/%C3%A4", "kv1/folder/deep"):
        await put_kv(vault, path, **VALUES)
    for number in (1, 2):
        await put_kv(vault, "kv2/data/shapes", number=number, **VALUES)
    await allow(vault, "everything", "kv1", "kv1/*", "kv2/*", capabilities=["read", "list"])
    await jwt_role(vault, "reader", "everything")
    files = [f"answer-{number}" for number in range(len(PATHS))]
    objects = [entry(name, path) for name, path in zip(files, PATHS, strict=True)]
    spec = class_spec(vault, *objects, provider="vault", roleName="reader", audience="openbao")
    tokens = node.folder / "tokens.json"
    tokens.write_text(signer.kubelet_json("shop", "web"))
    target = node.folder / "volume"
    await node.children.run(
        *("mount", "keyferry", "mount", str(node.put_class("reader", spec)), str(target)),
        f"--service-account-tokens={tokens}",
    )
    contents = files_below(target / (target / "..data").readlink())
    await node.children.run("unmount", "keyferry", "unmount", str(target))
    by_keyferry = {path: contents[name][1] for name, path in zip(files, PATHS, strict=True)}
    assert await asyncio.to_thread(_read_by_go, vault) == by_keyferry


def _read_by_go(vault: VaultServer) -> dict[str, bytes | None]:
    """Return Go's output for each path; None if it gets no response."""
    run = subprocess.run(
        [str(go_reader())],
        input="".join(json.dumps({"method": "GET", "path": path}) + "\n" for path in PATHS),
        env={
            "VAULT_ADDR": vault.address,
            "VAULT_CACERT": str(vault.ca),
            "VAULT_TOKEN": vault.keys.root,
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    lines = run.stdout.splitlines()
    return {
        path: None if line == "error" else base64.b64decode(line)
        for path, line in zip(PATHS, lines, strict=True)
    }
