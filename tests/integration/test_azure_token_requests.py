"""Our requests for tokens beside those of Microsoft's azure-identity: field by field the same.

Both ask the Entra of the development vault, which checks secrets and assertions, through a relay
that keeps what came over the wire.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)

from keyferry.errors import ConnectionFailedError, IdentityError
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.providers.azure.auth.entra_request import ASSERTION_LIFETIME_SECONDS
from keyferry.providers.azure.auth.identity import (
    EXCHANGE_AUDIENCE,
    CertificatePrincipal,
    Identity,
    ServiceAccountToken,
    ServicePrincipal,
    WorkloadIdentity,
)
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.cloud_file import parse_environment
from keyferry.providers.azure.clouds import CLOUDS, AzureCloud
from tests.fakes.certificates import issue_certificate, new_rsa_key
from tests.fakes.devvault import DevVault, running_devvault
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.token_relay import RecordedRequest, TokenRelay, token_relay

TENANT = "bbbbbbbb-0000-4000-8000-000000000002"
CLIENT = "aaaaaaaa-0000-4000-8000-000000000001"
ADFS_CLIENT = "aaaaaaaa-0000-4000-8000-00000000adf5"
SUBJECT = "system:serviceaccount:shop:web"
SECRET = "canary s3cret/&=+%\u00e4\u20ac"
PASSWORD = "canary-p\u00e4ss"
ISSUED = issue_certificate("app", new_rsa_key())

STACK = parse_environment(
    json.dumps(
        {
            "name": "AzureStackCloud",
            "activeDirectoryEndpoint": "https://login.local/",
            "keyVaultEndpoint": "https://vault.local/",
            "keyVaultDNSSuffix": "vault.local",
        }
    ).encode(),
    path="stack.json",
)


def _pkcs12(password: str) -> bytes:
    encryption = BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(
        b"app", ISSUED.key, ISSUED.certificate, None, encryption
    )


def _encrypted_pem(password: str) -> bytes:
    encryption = BestAvailableEncryption(password.encode())
    key = ISSUED.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return ISSUED.pem + key


CERTIFICATES = {
    "pem": CertificatePrincipal(CLIENT, ISSUED.key_pem + ISSUED.pem),
    "pem, certificate first": CertificatePrincipal(CLIENT, ISSUED.pem + ISSUED.key_pem),
    "pem with password": CertificatePrincipal(CLIENT, _encrypted_pem(PASSWORD), PASSWORD),
    "pkcs12": CertificatePrincipal(CLIENT, base64.b64decode(ISSUED.pkcs12())),
    "pkcs12 with password": CertificatePrincipal(CLIENT, _pkcs12(PASSWORD), PASSWORD),
}


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    """An application that may prove itself in each way, and one that an AD FS knows."""
    async with running_devvault(tmp_path) as running:
        running.add_app(CLIENT, tenant=TENANT, secret=SECRET)
        running.add_app_certificate(CLIENT, ISSUED.pem.decode())
        running.federate(CLIENT, subject=SUBJECT)
        running.add_app(ADFS_CLIENT, tenant="adfs", secret=SECRET)
        running.add_app_certificate(ADFS_CLIENT, ISSUED.pem.decode())
        yield running


@pytest.fixture
async def relay(vault: DevVault) -> AsyncIterator[TokenRelay]:
    """The relay between both clients and the vault."""
    async with token_relay(vault) as running:
        yield running


def workload(vault: DevVault) -> WorkloadIdentity:
    """The identity of a pod of the service account shop/web."""
    token = json.loads(vault.service_account_token(SUBJECT))[EXCHANGE_AUDIENCE]["token"]
    return WorkloadIdentity(CLIENT, ServiceAccountToken(token, "", SUBJECT))


async def keyferry_request(
    relay: TokenRelay, login: AccessTokenRequest
) -> tuple[str, RecordedRequest]:
    """The token that Keyferry gets, and the one request that it makes."""
    client = HttpsClient(relay.redirect.emulator().https)
    credentials = TokenCache(client, uncached_fetcher().transport)
    try:
        token = await credentials.token_provider(login).get_token()
    finally:
        await credentials.close()
        await client.close()
    (request,) = relay.requests
    relay.requests.clear()
    return token, request


async def microsoft_request(
    relay: TokenRelay, login: AccessTokenRequest
) -> tuple[str, RecordedRequest]:
    """The token that azure-identity gets for the same, and the one request that it makes."""
    async with _microsoft(relay, login) as credential:
        token = await credential.get_token(f"{login.effective_resource}/.default")
    (request,) = relay.requests
    relay.requests.clear()
    return token.token, request


@asynccontextmanager
async def _microsoft(
    relay: TokenRelay, login: AccessTokenRequest
) -> AsyncIterator[AsyncTokenCredential]:
    session = aiohttp.ClientSession(connector=relay.redirect.connector())
    options: dict[str, Any] = {
        "transport": AioHttpTransport(session=session, session_owner=False),
        "authority": login.cloud.authority,
    }
    match login.identity:
        case ServicePrincipal(client_id, secret):
            made: AsyncTokenCredential = ClientSecretCredential(
                login.tenant, client_id, secret, **options
            )
        case CertificatePrincipal(client_id, certificate, password):
            made = CertificateCredential(
                login.tenant,
                client_id,
                certificate_data=certificate,
                password=password or None,
                **options,
            )
        case WorkloadIdentity(client_id, token):
            made = ClientAssertionCredential(login.tenant, client_id, lambda: token.text, **options)
        case other:
            raise AssertionError(f"azure-identity is not asked for {other}")
    try:
        yield made
    finally:
        await session.close()


def on_the_wire(request: RecordedRequest) -> dict[str, object]:
    """Everything of a request that Entra goes by; an assertion as what it says."""
    form: dict[str, object] = dict(request.form)
    if isinstance(assertion := form.get("client_assertion"), str):
        form["client_assertion"] = _said(assertion)
    headers = {name.title(): value for name, value in request.headers.items()}
    kept = {name: headers.get(name) for name in ("Content-Type", "Accept", "Authorization")}
    return {"method": request.method, "url": request.url, "form": form, **kept}


def _said(assertion: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Header and claims without those that differ each time: its name, its times."""
    header, claims = jwt.get_unverified_header(assertion), _claims(assertion)
    for name in ("x5t", "x5t#S256"):
        if name in header:
            # Theirs is padded; RFC 7515 says that it is not to be.
            header[name] = header[name].rstrip("=")
    return header, {key: claims[key] for key in claims.keys() - {"jti", "nbf", "iat", "exp"}}


def _claims(assertion: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    return found


@pytest.mark.parametrize("cloud", [*CLOUDS, STACK], ids=lambda cloud: cloud.name)
@pytest.mark.parametrize("mode", ["secret", "workload identity", "pem"])
async def test_token_requests_equal_those_of_azure_identity(
    vault: DevVault, relay: TokenRelay, cloud: AzureCloud, mode: str
) -> None:
    """In every cloud and mode: one request with the same fields, and a token for both."""
    identities: dict[str, Identity] = {
        "secret": ServicePrincipal(CLIENT, SECRET),
        "workload identity": workload(vault),
        "pem": CERTIFICATES["pem"],
    }
    login = AccessTokenRequest(identities[mode], TENANT, cloud)
    (token, our_request), (their_token, their_request) = (
        await keyferry_request(relay, login),
        await microsoft_request(relay, login),
    )
    assert on_the_wire(our_request) == on_the_wire(their_request)
    assert _claims(token).keys() == _claims(their_token).keys()
    for claim in ("aud", "iss", "appid", "tid"):
        assert _claims(token)[claim] == _claims(their_token)[claim]


@pytest.mark.parametrize("tenant", [TENANT.upper(), "adfs"])
async def test_tenant_is_sent_unchanged(relay: TokenRelay, tenant: str) -> None:
    """Also in upper case; AD FS has its documented endpoint."""
    client = ADFS_CLIENT if tenant == "adfs" else CLIENT
    login = AccessTokenRequest(ServicePrincipal(client, SECRET), tenant, STACK)
    _, request = await keyferry_request(relay, login)
    path = "adfs/oauth2/token" if tenant == "adfs" else f"{tenant}/oauth2/v2.0/token"
    assert request.url == f"https://login.local/{path}"


@pytest.mark.parametrize("form", sorted(CERTIFICATES))
async def test_assertions_equal_those_of_azure_identity(relay: TokenRelay, form: str) -> None:
    """In every form of the certificate: same header, same claims, a valid signature."""
    login = AccessTokenRequest(CERTIFICATES[form], TENANT, CLOUDS[0])
    requests = [
        (await keyferry_request(relay, login))[1],
        (await microsoft_request(relay, login))[1],
    ]
    assert on_the_wire(requests[0]) == on_the_wire(requests[1])
    claims = [
        jwt.decode(
            request.form["client_assertion"],
            ISSUED.key.public_key(),
            algorithms=["PS256"],
            audience=request.url,
            issuer=CLIENT,
        )
        for request in requests
    ]
    assert claims[0].keys() == claims[1].keys()
    assert claims[0]["jti"] != claims[1]["jti"]
    assert claims[0]["exp"] - claims[0]["nbf"] == ASSERTION_LIFETIME_SECONDS
    assert abs(claims[0]["nbf"] - time.time()) < 60


async def test_assertions_are_unique(relay: TokenRelay) -> None:
    """A recorded assertion cannot be mistaken for the next one."""
    login = AccessTokenRequest(CERTIFICATES["pem"], TENANT, CLOUDS[0])
    names = {
        _claims((await keyferry_request(relay, login))[1].form["client_assertion"])["jti"]
        for _ in range(3)
    }
    assert len(names) == 3


async def test_an_ad_fs_gets_the_older_signature(relay: TokenRelay) -> None:
    """As from azure-identity: RS256, named by SHA-1. Only the endpoint is another.

    azure-identity asks an AD FS for `/adfs/oauth2/v2.0/token`, which AD FS does not have; MSAL for
    Go, which upstream uses, reads `/adfs/oauth2/token` from its configuration.
    """
    identity = CertificatePrincipal(ADFS_CLIENT, CERTIFICATES["pem"].certificate)
    login = AccessTokenRequest(identity, "adfs", STACK)
    _, request = await keyferry_request(relay, login)
    with pytest.raises(HttpResponseError):
        await microsoft_request(relay, login)
    (refused,) = relay.requests
    assert refused.url == "https://login.local/adfs/oauth2/v2.0/token"
    mine, other = (_said(each.form["client_assertion"]) for each in (request, refused))
    assert mine == (other[0], {**other[1], "aud": request.url})
    assert mine[0].keys() == {"alg", "typ", "x5t"}
    jwt.decode(
        request.form["client_assertion"],
        ISSUED.key.public_key(),
        algorithms=["RS256"],
        audience=request.url,
    )


@pytest.mark.parametrize("identity", ["secret", "certificate"])
async def test_credentials_are_only_in_the_body(relay: TokenRelay, identity: str) -> None:
    """Neither in the URL nor in a header: proxies log these."""
    identities: dict[str, Identity] = {
        "secret": ServicePrincipal(CLIENT, SECRET),
        "certificate": CERTIFICATES["pem"],
    }
    _, request = await keyferry_request(
        relay, AccessTokenRequest(identities[identity], TENANT, CLOUDS[0])
    )
    shown = request.url + repr(request.headers)
    assert "canary" not in shown
    assert "eyJ" not in shown


async def test_redirects_are_not_followed(relay: TokenRelay) -> None:
    """The credential would be sent to their target."""
    relay.redirect_location = "https://login.windows.net/elsewhere"
    with pytest.raises(IdentityError, match=r"refuses a token .* with status 307"):
        await keyferry_request(
            relay, AccessTokenRequest(ServicePrincipal(CLIENT, SECRET), TENANT, CLOUDS[0])
        )
    assert [f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"] == [
        request.url for request in relay.requests
    ]


async def test_entra_is_reached_through_the_proxy() -> None:
    """Unlike services of the machine and the cluster."""
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    host, port = proxy.sockets[0].getsockname()
    client = HttpsClient(HttpsSettings(proxies=Proxies(https=f"http://{host}:{port}")))
    login = AccessTokenRequest(ServicePrincipal(CLIENT, SECRET), TENANT, CLOUDS[0])
    async with proxy:
        with pytest.raises(ConnectionFailedError, match="the proxy refused to connect"):
            await TokenCache(client, uncached_fetcher().transport).token_provider(login).get_token()
    await client.close()
    assert asked == [b"CONNECT login.microsoftonline.com:443 HTTP/1.1\r\n"]
