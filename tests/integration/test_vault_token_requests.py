"""Service account token requests to a Kubernetes API on a real socket."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from keyferry.errors import IdentityError, KeyferryError, PlatformError
from keyferry.providers.settings import VaultSettings
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_auth import service_account_token
from tests.fakes.vault_mounts import entry, vault_mounts

DB = entry("db", "secret/data/app/db", secretKey="password")
NO_TOKEN: dict[str, Any] = {"csi.storage.k8s.io/serviceAccount.tokens": ""}


@dataclass
class KubernetesApiServer:
    """Issues tokens like a real API server.

    Attributes:
        folder: service account directory of the caller.
        requests: path and body of each request.
        status: status of all responses.
        url: URL of the server.
    """

    folder: Path
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int = 201
    body: bytes = b""
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a TokenRequest."""
        assert "Bearer canary-own" == request.headers["Authorization"]
        assert "application/json" == request.headers["Content-Type"]
        wanted = await request.json()
        self.requests.append((request.path, wanted))
        if self.status != 201 or self.body:
            return web.Response(status=self.status, body=self.body)
        (audience,) = wanted["spec"]["audiences"] or ["https://kubernetes.default"]
        parts = request.path.split("/")
        token = service_account_token(f"{parts[4]}/{parts[6]}", audience)
        return web.json_response({"status": {"token": token}}, status=201)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApiServer]:
    """Run an API server whose certificate is signed by `ca.crt` of the service account."""
    authority = issue_certificate("ca", new_ec_key(), is_ca=True)
    own = issue_certificate("api", new_ec_key(), authority, hosts=("localhost",))
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    (tmp_path / "token").write_text("canary-own\n")
    (tmp_path / "pair.pem").write_bytes(own.pem + own.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")
    found = KubernetesApiServer(tmp_path)
    app = web.Application()
    app.router.add_post("/{path:.*}", found.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    found.url = f"https://localhost:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def mounted(api: KubernetesApiServer, **over: str) -> dict[str, bytes]:
    """Return the files of a pod for which kubelet sent no token."""
    settings = VaultSettings(
        kubernetes_url=api.url, service_account_folder=str(api.folder), create_pod_tokens=True
    )
    async with running_vault() as vault, vault_mounts(vault, settings=settings) as mounts:
        policy = {"secret/data/app/*": {"read"}}
        vault.add_role("app", accounts=["shop/web"], policy=policy, audience="mine")
        vault.write("secret", "app/db", {"password": "x"})
        parameters: dict[str, Any] = {**NO_TOKEN, "audience": "mine", **over}
        return await mounts.files(DB, **parameters)


async def test_token_is_requested_for_the_pod(api: KubernetesApiServer) -> None:
    """Bound to the pod, with the audience of the SecretProviderClass, short-lived."""
    assert {"db": b"x"} == await mounted(api)
    ((path, body),) = api.requests
    assert "/api/v1/namespaces/shop/serviceaccounts/web/token" == path
    assert {
        "audiences": ["mine"],
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "web-0",
            "uid": "uid-of-web-0",
        },
        "expirationSeconds": 900,
    } == body["spec"]


async def test_default_audience_is_that_of_the_api_server(api: KubernetesApiServer) -> None:
    """Like upstream."""
    with pytest.raises(IdentityError, match="audience"):
        await mounted(api, audience="")
    assert [] == api.requests[0][1]["spec"]["audiences"]


async def test_no_token_is_requested_if_kubelet_sent_one(api: KubernetesApiServer) -> None:
    token = service_account_token("shop/web", "mine")
    sent = json.dumps({"mine": {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}})
    await mounted(api, **{"csi.storage.k8s.io/serviceAccount.tokens": sent})
    assert [] == api.requests


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "createPodTokens"), (404, "pod shop/web-0"), (400, "log of the Kubernetes API")],
)
async def test_rejected_token_request_says_what_is_missing(
    api: KubernetesApiServer, status: int, words: str
) -> None:
    """The permission, the pod, or something else. The response is not quoted."""
    api.status, api.body = status, b'{"message": "canary"}'
    with pytest.raises(IdentityError, match=words) as caught:
        await mounted(api)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("body", [b"x", b"{}", b'{"status": {"token": 1}}', b"[]"])
async def test_response_without_token_is_an_error(api: KubernetesApiServer, body: bytes) -> None:
    api.body = body
    with pytest.raises(IdentityError, match="contains no token"):
        await mounted(api)


async def test_missing_service_account_token_is_reported(api: KubernetesApiServer) -> None:
    (api.folder / "token").unlink()
    with pytest.raises(PlatformError, match="automountServiceAccountToken"):
        await mounted(api)


async def test_untrusted_api_server_gets_no_request(api: KubernetesApiServer) -> None:
    """Its certificate must be signed by the CA of the service account."""
    (api.folder / "ca.crt").write_bytes(issue_certificate("other", new_ec_key(), is_ca=True).pem)
    with pytest.raises(KeyferryError, match="certificate"):
        await mounted(api)
    assert [] == api.requests
