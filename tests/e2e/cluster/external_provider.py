"""An external provider behind a socket, like the one of upstream's end-to-end tests.

It returns a fixed content for each object name, and a different one for pods in namespaces that
were rotated. It can require service account tokens for certain audiences in each call.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import yaml

from keyferry.content import ObjectVersion, SecretFile
from keyferry.net.grpc_server import Context
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import MountCall, MountResult, decode_call, encode_result
from keyferry.providers.known_fields.attributes import POD_NAMESPACE, SERVICE_ACCOUNT_TOKENS
from tests.fakes.provider import external_provider

NAME = "e2e-provider"
"""Its name in SecretProviderClasses."""

KEY = "-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----"
_CONTENTS = {"foo": "secret", "fookey": KEY}


@dataclass
class E2eProvider:
    """Handles mount calls.

    Attributes:
        audiences: calls without a token for each of these are rejected.
        rotated: the namespaces whose pods get the content `rotated`.
        calls: number of calls by namespace.
        credentials: the `secrets` of the last call by namespace.
    """

    audiences: Sequence[str] = ()
    rotated: set[str] = field(default_factory=set)
    calls: dict[str, int] = field(default_factory=dict)
    credentials: dict[str, Mapping[str, str] | None] = field(default_factory=dict)

    async def answer(self, message: wire.MountRequest, context: Context) -> wire.MountResponse:
        """Reject a call that violates the protocol; otherwise return the files."""
        call = decode_call(message)
        if problem := self._problem(call):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        namespace = call.attributes[POD_NAMESPACE]
        self.calls[namespace] = self.calls.get(namespace, 0) + 1
        self.credentials[namespace] = call.secrets
        rotated = namespace in self.rotated
        names = _names(call.attributes["objects"])
        texts = {
            name: "rotated" if rotated else _CONTENTS[name.rpartition("/")[2]] for name in names
        }
        version = "v2" if rotated else "v1"
        return encode_result(
            MountResult(
                tuple(ObjectVersion(f"secret/{name}", version) for name in names),
                tuple(SecretFile(name, 0, text.encode()) for name, text in texts.items()),
            )
        )

    def _problem(self, call: MountCall) -> str:
        if not call.target_path:
            return "no target path"
        tokens = json.loads(call.attributes.get(SERVICE_ACCOUNT_TOKENS, "{}"))
        missing = [each for each in self.audiences if not tokens.get(each, {}).get("token")]
        return f"no token for {', '.join(missing)}" if missing else ""


def _names(objects: str) -> list[str]:
    return [yaml.safe_load(entry)["objectName"] for entry in yaml.safe_load(objects)["array"]]


@asynccontextmanager
async def running_e2e_provider(folder: Path, *audiences: str) -> AsyncIterator[E2eProvider]:
    """Serve the provider in the folder of provider sockets."""
    provider = E2eProvider(audiences)
    async with external_provider(folder / f"{NAME}.sock", provider.answer):
        yield provider
