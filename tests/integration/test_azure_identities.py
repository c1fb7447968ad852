"""Every identity mode of Azure against the development vault, and every refusal of its endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from keyferry.azure.arc import ArcAgent
from keyferry.azure.clouds import CLOUDS
from keyferry.azure.contents import Secret
from keyferry.azure.identity import Credentials, Login
from keyferry.azure.keyvault import KeyVault
from keyferry.azure.modes import ArcIdentity, ServicePrincipal, VmManagedIdentity
from keyferry.azure.objects import ObjectRef, ObjectType
from keyferry.azure.provider import AzureProvider
from keyferry.azure.token_sources import TokenPlaces
from keyferry.azure.vault_refusals import Asked
from keyferry.contract import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    MountCall,
)
from keyferry.devvault.exchange import PathKind
from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    Hop,
    IdentityError,
    KeyferryError,
)
from keyferry.https import DevRedirect, HttpsClient, HttpsSettings
from keyferry.provider_settings import ProviderSettings
from tests.fakes.devvault import (
    DEFAULT_TENANT,
    CloseHalfWay,
    DevVault,
    RespondStatus,
    running_devvault,
)
from tests.fakes.economy import errand, forgetful

MI = "11111111-0000-4000-8000-000000000001"
APP = "22222222-0000-4000-8000-000000000002"
BOUND = "33333333-0000-4000-8000-000000000003"
MACHINE = "44444444-0000-4000-8000-000000000004"
SUBJECT = "system:serviceaccount:shop:web"
BINDING = "api://AKSIdentityBinding"
VALUE = "canary-value"
PASSWORD = "canary-password"
HSM = "contoso.managedhsm.azure.net"


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def public(self) -> str:
        """The certificate alone, as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def pem(self, password: str = "") -> str:
        """Key and certificate as PEM."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        form = serialization.PrivateFormat.PKCS8
        key = self.key.private_bytes(serialization.Encoding.PEM, form, encryption)
        return key.decode() + self.public

    def pkcs12(self, password: str = "") -> str:
        """Key and certificate as the base64 text of PKCS#12."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        data = pkcs12.serialize_key_and_certificates(
            b"app", self.key, self.certificate, None, encryption
        )
        return base64.encodebytes(data).decode()


def new_certificate() -> Certificate:
    """One that is good for a day."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    return Certificate(key, builder.sign(key, SHA256()))


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """The one that the app is known by."""
    return new_certificate()


@pytest.fixture
async def vault(tmp_path: Path, certificate: Certificate) -> AsyncIterator[DevVault]:
    """A vault `contoso` that every identity of these tests may read."""
    async with running_devvault(tmp_path) as running:
        running.set_secret("contoso", "db-password", VALUE)
        running.add_app(APP, tenant=DEFAULT_TENANT, secret=None)
        running.add_app_certificate(APP, certificate.public)
        running.add_managed_identity(MI)
        running.assign_to_pods(MI, namespace="shop", pod="web-*")
        running.add_managed_identity(BOUND)
        running.federate(BOUND, subject=SUBJECT, audience=BINDING)
        running.add_managed_identity(MACHINE, system_assigned=True)
        for client in (APP, MI, BOUND, MACHINE):
            running.grant("contoso", client)
        yield running


@asynccontextmanager
async def provider_for(
    vault: DevVault, settings: ProviderSettings | None = None, redirect: DevRedirect | None = None
) -> AsyncIterator[AzureProvider]:
    """A provider that is redirected to the vault and pauses for no time."""
    https = HttpsSettings(dev=redirect or vault.redirect)
    made = AzureProvider(HttpsClient(https), forgetful(), settings)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def provider(vault: DevVault) -> AsyncIterator[AzureProvider]:
    """The provider with its default settings."""
    async with provider_for(vault) as made:
        yield made


def call(parameters: dict[str, str], secrets: dict[str, str] | None = None) -> MountCall:
    """A call for the pod shop/web-0 of the service account web."""
    entry = json.dumps({"objectName": "db-password", "objectType": "secret"})
    base = {
        POD_NAME: "web-0",
        POD_NAMESPACE: "shop",
        SERVICE_ACCOUNT: "web",
        "keyvaultName": "contoso",
        "tenantID": DEFAULT_TENANT,
        "objects": json.dumps({"array": [entry]}),
    }
    return MountCall(base | parameters, secrets)


def bound(vault: DevVault, subject: str = SUBJECT, lifetime: int = 3600) -> dict[str, str]:
    """The parameters of an identity binding, with a fresh token."""
    tokens = vault.service_account_token(subject, audience=BINDING, lifetime_seconds=lifetime)
    return {"useAzureTokenProxy": "true", "clientID": BOUND, SERVICE_ACCOUNT_TOKENS: tokens}


async def value(provider: AzureProvider, wanted: MountCall) -> bytes:
    """What the one file of a mount holds."""
    return (await provider.mount(wanted)).files[0].contents


async def failure(provider: AzureProvider, wanted: MountCall) -> KeyferryError:
    """The error of a mount; nothing along its causes shows a value, and it has a remedy."""
    with pytest.raises(KeyferryError) as caught:
        await provider.mount(wanted)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in str(error)
        error = error.__cause__
    assert caught.value.remedy
    return caught.value


# --- a service principal with a certificate -------------------------------------------------------


@pytest.mark.parametrize("form", ["pem", "pem with password", "pkcs12", "pkcs12 with password"])
async def test_a_certificate_signs_in_in_every_form(
    provider: AzureProvider, certificate: Certificate, form: str
) -> None:
    """PEM or the base64 text of PKCS#12, the key encrypted or not."""
    password = PASSWORD if "password" in form else ""
    text = certificate.pem(password) if "pem" in form else certificate.pkcs12(password)
    secrets = {"clientid": APP, "clientcertificate": text}
    if password:
        secrets["clientcertificatepassword"] = password
    assert await value(provider, call({}, secrets)) == VALUE.encode()


async def test_a_certificate_that_is_not_registered_is_refused(provider: AzureProvider) -> None:
    """With the command that registers it."""
    secrets = {"clientid": APP, "clientcertificate": new_certificate().pem()}
    error = await failure(provider, call({}, secrets))
    assert "its assertion is not registered, or has expired (AADSTS700027)" in error.problem
    assert "az ad app credential reset" in error.remedy


async def test_a_wrong_password_is_told_apart(
    vault: DevVault, provider: AzureProvider, certificate: Certificate
) -> None:
    """Before any request, by the keys of the Secret, and without a word of the parser."""
    secrets = {
        "clientid": APP,
        "clientcertificate": certificate.pem(PASSWORD),
        "clientcertificatepassword": "canary-wrong",
    }
    error = await failure(provider, call({}, secrets))
    assert isinstance(error, IdentityError)
    assert "clientcertificate in the nodePublishSecretRef Secret cannot be used" in error.problem
    assert "the password does not open it" in error.problem
    assert "clientcertificatepassword" in error.remedy
    assert vault.count(PathKind.TOKEN) == 0


async def test_a_renewed_certificate_counts_at_once(
    vault: DevVault, provider: AzureProvider, certificate: Certificate
) -> None:
    """It is another identity than the old one, so no cache stands in its way."""
    renewed = new_certificate()
    await value(provider, call({}, {"clientid": APP, "clientcertificate": certificate.pem()}))
    vault.add_app_certificate(APP, renewed.public)
    await value(provider, call({}, {"clientid": APP, "clientcertificate": renewed.pem()}))
    assert vault.count(PathKind.TOKEN, status=200) == 2


# --- managed identities of a machine --------------------------------------------------------------


async def test_a_managed_identity_is_found_by_each_of_its_ids(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Client id, object id, resource id; the last also where upstream expects a client id."""
    identity = vault.data.identities.get(MI)
    for parameters in (
        {"userAssignedIdentityID": identity.client_id},
        {"userAssignedIdentityID": identity.resource_id},
        {"userAssignedIdentityObjectID": identity.object_id},
        {"userAssignedIdentityResourceID": identity.resource_id},
    ):
        wanted = call({"useVMManagedIdentity": "true"} | parameters)
        assert await value(provider, wanted) == VALUE.encode()
    assert {record.principal for record in vault.requests} == {MI}


async def test_the_environment_does_not_redirect_a_managed_identity(
    provider: AzureProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clients let these variables send them elsewhere; a class does not know them."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/elsewhere")
    monkeypatch.setenv("IDENTITY_HEADER", "canary")
    assert await value(provider, call({"useVMManagedIdentity": "true"})) == VALUE.encode()


async def test_an_unknown_object_id_is_named_as_such(provider: AzureProvider) -> None:
    """So that nobody looks for a client id."""
    wanted = {"useVMManagedIdentity": "true", "userAssignedIdentityObjectID": APP}
    error = await failure(provider, call(wanted))
    assert f"the managed identity with object id {APP} is not assigned" in error.problem


# --- Azure Arc ------------------------------------------------------------------------------------


async def test_an_arc_machine_proves_itself_by_a_file(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Challenged once, answered once; the file is gone afterwards."""
    assert await value(provider, call({"useArcManagedIdentity": "true"})) == VALUE.encode()
    assert [vault.count(PathKind.IMDS, status=status) for status in (401, 200)] == [1, 1]
    assert list((vault.data.folder / "arc").iterdir()) == []


async def test_a_challenge_outside_of_the_folder_of_the_agent_is_not_answered(
    vault: DevVault, tmp_path: Path
) -> None:
    """Whoever listens on that port must not have us read any file for them."""
    client = HttpsClient(HttpsSettings(dev=vault.redirect))
    places = TokenPlaces.of(ProviderSettings(), vault.redirect)
    elsewhere = replace(places, arc=ArcAgent(program=None, keys=tmp_path / "other"))
    credentials = Credentials(client, forgetful(), places=elsewhere)
    try:
        with pytest.raises(IdentityError, match="names a file outside of"):
            await credentials.tokens(Login(ArcIdentity(), DEFAULT_TENANT, CLOUDS[0])).token()
    finally:
        await credentials.close()
        await client.close()
    assert vault.count(PathKind.IMDS, status=200) == 0


async def test_a_machine_with_the_arc_agent_asks_it_and_not_imds(
    vault: DevVault, tmp_path: Path
) -> None:
    """As upstream does: the class of a VM works there too, but for user-assigned identities."""
    (tmp_path / "himds").touch()
    client = HttpsClient(HttpsSettings(dev=vault.redirect))
    places = TokenPlaces.of(ProviderSettings(), vault.redirect)
    arc = replace(places.arc, program=tmp_path / "himds")
    credentials = Credentials(client, forgetful(), places=replace(places, arc=arc))
    try:
        login = Login(VmManagedIdentity(""), DEFAULT_TENANT, CLOUDS[0])
        await credentials.tokens(login).token()
        with pytest.raises(IdentityError, match="connected to Azure Arc"):
            credentials.tokens(replace(login, identity=VmManagedIdentity(MI)))
    finally:
        await credentials.close()
        await client.close()
    assert vault.count(PathKind.IMDS, status=401) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "does not accept the answer to its challenge (status 403)"),
        (400, "the Azure Arc agent refuses a token (status 400)"),
        (503, "the Azure Arc agent has no token (status 503) (4 tries)"),
    ],
)
async def test_the_arc_agent_refuses(
    vault: DevVault, provider: AzureProvider, status: int, words: str
) -> None:
    """Each status has its own meaning."""
    vault.add_fault("127.0.0.1/metadata", RespondStatus(status), times=None)
    error = await failure(provider, call({"useArcManagedIdentity": "true"}))
    assert isinstance(error, IdentityError)
    assert words in error.problem


# --- pod identity ---------------------------------------------------------------------------------


async def test_a_pod_has_the_identity_that_is_assigned_to_it(
    vault: DevVault, provider: AzureProvider
) -> None:
    """NMI knows it by the names of pod and namespace."""
    assert await value(provider, call({"usePodIdentity": "true"})) == VALUE.encode()
    assert vault.count(PathKind.NMI) == 1


async def test_pods_never_share_a_token_of_nmi(vault: DevVault, provider: AzureProvider) -> None:
    """Another pod may have another identity, or none."""
    await provider.mount(call({"usePodIdentity": "true"}))
    error = await failure(provider, call({"usePodIdentity": "true", POD_NAME: "db-0"}))
    assert "nmi response failed with status code: 403" in error.problem
    assert "the identity of pod shop/db-0" in error.problem
    assert "kubectl get azureassignedidentity" in error.remedy


async def test_an_identity_that_is_not_assigned_yet_is_waited_for(
    vault: DevVault, provider: AzureProvider
) -> None:
    """NMI says 404 until it is."""
    vault.add_fault("localhost/host/token", RespondStatus(404), times=2)
    assert await value(provider, call({"usePodIdentity": "true"})) == VALUE.encode()


async def test_an_answer_of_nmi_without_token_and_client_is_none(
    vault: DevVault, provider: AzureProvider
) -> None:
    """In upstream's words, which people search for."""
    vault.add_fault("localhost/host/token", RespondStatus(200))
    error = await failure(provider, call({"usePodIdentity": "true"}))
    words = "nmi did not return expected values in response: token and clientid"
    assert words in error.problem


# --- identity binding -----------------------------------------------------------------------------


async def test_a_bound_identity_gets_its_token_from_the_proxy(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The TLS server name is found out from the certificate of the API server."""
    assert await value(provider, call(bound(vault))) == VALUE.encode()
    hosts = [record.host for record in vault.requests if record.kind is PathKind.TOKEN]
    assert hosts == ["kubernetes.default.svc.cluster.local"]


async def test_two_volumes_of_one_pod_use_two_modes(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Workload identity and identity binding beside each other, with one service account."""
    vault.federate(APP, subject=SUBJECT)
    audiences = ("api://AzureADTokenExchange", BINDING)
    tokens = {SERVICE_ACCOUNT_TOKENS: vault.service_account_token(SUBJECT, audience=audiences)}
    await provider.mount(call(tokens | {"clientID": APP}))
    await provider.mount(call(tokens | {"clientID": BOUND, "useAzureTokenProxy": "true"}))
    hosts = [record.host for record in vault.requests if record.kind is PathKind.TOKEN]
    assert hosts == ["login.microsoftonline.com", "kubernetes.default.svc.cluster.local"]


async def test_a_federated_credential_of_entra_is_no_binding(
    vault: DevVault, provider: AzureProvider
) -> None:
    """And the other way round: each endpoint takes tokens of its own audience."""
    vault.federate(APP, subject=SUBJECT)
    error = await failure(provider, call(bound(vault) | {"clientID": APP}))
    assert "(AADSTS700211)" in error.problem


async def test_a_binding_of_another_service_account_is_refused(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Issuer, subject and audience of the token are shown."""
    other = "system:serviceaccount:shop:other"
    error = await failure(provider, call(bound(vault, other) | {SERVICE_ACCOUNT: "other"}))
    assert f"has the subject {other} (AADSTS700213)" in error.problem
    assert f"audience {BINDING}" in error.remedy


async def test_a_wrong_server_name_does_not_reach_the_proxy(vault: DevVault) -> None:
    """It names the API server, which answers in its own way."""
    settings = ProviderSettings(sni_name="kubernetes.default.svc.cluster.local")
    async with provider_for(vault, settings) as provider:
        error = await failure(provider, call(bound(vault)))
    assert "refuses a token" in error.problem
    assert "with status 401" in error.problem
    assert "use-managed-identity" in error.remedy


async def test_a_server_name_that_the_certificate_does_not_have_is_a_tls_failure(
    vault: DevVault,
) -> None:
    """The proxy proves its name like any other host."""
    async with provider_for(vault, ProviderSettings(sni_name="other.ests.aks")) as provider:
        error = await failure(provider, call(bound(vault)))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.TLS)
    assert vault.count(PathKind.TOKEN) == 0


async def test_a_cluster_without_an_api_server_there_has_no_proxy(
    vault: DevVault, tmp_path: Path
) -> None:
    """Said when the mode is used, in upstream's words; start-up does not wait for it."""
    async with running_devvault(tmp_path / "other") as other:
        trusts_another = replace(vault.redirect, ca_file=other.redirect.ca_file)
        async with provider_for(vault, redirect=trusts_another) as provider:
            error = await failure(provider, call(bound(vault)))
    assert isinstance(error, IdentityError)
    assert "proxy transport not available: the certificate of kubernetes.default" in error.problem


async def test_a_proxy_that_fails_is_tried_again(vault: DevVault, provider: AzureProvider) -> None:
    """Like every other endpoint."""
    vault.add_fault("kubernetes.default", RespondStatus(503))
    vault.add_fault("kubernetes.default", CloseHalfWay())
    assert await value(provider, call(bound(vault))) == VALUE.encode()


# --- how long a token is kept ---------------------------------------------------------------------


class Ahead:
    """A clock that a test puts ahead.

    Attributes:
        seconds: so much.
    """

    seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.seconds


@asynccontextmanager
async def renewals(vault: DevVault, clock: Ahead) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Gets a token, and waits until nobody asks for another one any more."""
    client = HttpsClient(HttpsSettings(dev=vault.redirect))
    credentials = Credentials(client, forgetful(), clock=clock)
    login = Login(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0])

    async def token() -> str:
        got = await credentials.tokens(login).token()
        while not credentials.credential(login).idle:  # noqa: ASYNC110 - a task tells nobody
            await asyncio.sleep(0.01)
        return got

    try:
        yield token
    finally:
        await credentials.close()
        await client.close()


@pytest.mark.parametrize(
    ("lifetime", "kept_until", "renewed_at"),
    [(3600, 3290, 3310), (60, 45, 51), (86400, 43190, 43210)],
)
async def test_a_token_is_renewed_before_it_expires(
    vault: DevVault, lifetime: int, kept_until: int, renewed_at: int
) -> None:
    """Five minutes before, in the last fifth of a short life, in the middle of a long one.

    Nobody waits for that: who comes first still gets the old token, the next one the new.
    """
    vault.tune(token_lifetime_seconds=lifetime)
    clock = Ahead()
    async with renewals(vault, clock) as token:
        first = await token()
        clock.seconds = kept_until
        assert (first, 1) == (await token(), vault.count(PathKind.IMDS))
        clock.seconds = renewed_at
        vault.tune(token_lifetime_seconds=3 * lifetime)
        assert (first, 2) == (await token(), vault.count(PathKind.IMDS))
        assert await token() != first
        assert vault.count(PathKind.IMDS) == 2


async def test_a_failed_renewal_leaves_the_token_in_use_until_it_ends(vault: DevVault) -> None:
    """And is tried again, but not by every mount; in its last minute a token is not used."""
    clock = Ahead()
    async with renewals(vault, clock) as token:
        first = await token()
        vault.add_fault("/metadata", RespondStatus(403), times=None)
        asked = []
        for clock.seconds in (3310, 3320, 3345, 3530):
            assert await token() == first
            asked.append(vault.count(PathKind.IMDS, status=403))
        assert asked == [1, 1, 2, 3]
        clock.seconds = 3545
        with pytest.raises(IdentityError):
            await token()


# --- what a vault wants ---------------------------------------------------------------------------


@asynccontextmanager
async def reader(vault: DevVault, login: Login, host: str) -> AsyncIterator[KeyVault]:
    """The vault at `host`, read as `login`."""
    client = HttpsClient(HttpsSettings(dev=vault.redirect))
    credentials = Credentials(client, forgetful())
    asked = Asked("contoso", login.tenant, login.cloud.authority, login.identity)
    try:
        yield KeyVault(client, credentials.tokens(login, host=host), asked=asked, netloc=host)
    finally:
        await credentials.close()
        await client.close()


SECRET = ObjectRef(ObjectType.SECRET, "db-password", "")


async def test_a_challenge_tells_the_resource(vault: DevVault) -> None:
    """A managed HSM wants tokens for managed HSMs."""
    login = Login(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0])
    async with reader(vault, login, HSM) as opened:
        found = await opened.read(SECRET, errand())
    assert isinstance(found, Secret)
    assert found.value == VALUE
    assert [record.status for record in vault.requests] == [200, 401, 200, 200]


async def test_a_managed_hsm_of_a_known_cloud_needs_no_challenge(vault: DevVault) -> None:
    """Its resource follows from its host name."""
    resource = CLOUDS[0].resource_of(HSM)
    login = Login(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0], resource)
    async with reader(vault, login, HSM) as opened:
        await opened.read(SECRET, errand())
    assert [record.status for record in vault.requests] == [200, 200]


async def test_what_a_vault_wants_is_remembered(vault: DevVault) -> None:
    """The next mount spares the round trip."""
    client = HttpsClient(HttpsSettings(dev=vault.redirect))
    credentials = Credentials(client, forgetful())
    login = Login(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0])
    asked = Asked("contoso", login.tenant, login.cloud.authority, login.identity)
    try:
        for _ in range(2):
            tokens = credentials.tokens(login, host=HSM)
            await KeyVault(client, tokens, asked=asked, netloc=HSM).read(SECRET, errand())
    finally:
        await credentials.close()
        await client.close()
    assert [record.status for record in vault.requests] == [200, 401, 200, 200, 200]


async def test_an_identity_of_another_tenant_is_refused_with_both_tenants(
    vault: DevVault,
) -> None:
    """The vault's tenant is tried too, because an application may be known in both."""
    other = "99999999-2222-4333-8444-555555555555"
    vault.add_app(APP, tenant=other, secret="s3cret-canary")
    login = Login(ServicePrincipal(APP, "s3cret-canary"), other, CLOUDS[0])
    async with reader(vault, login, "contoso.vault.azure.net") as opened:
        with pytest.raises(AccessDeniedError) as caught:
            await opened.read(SECRET, errand())
    for tenant in (other, DEFAULT_TENANT):
        assert f"https://login.microsoftonline.com/{tenant}" in caught.value.problem
    assert "canary" not in str(caught.value)


async def test_every_mode_leaves_no_file_behind(vault: DevVault, provider: AzureProvider) -> None:
    """Nor does one change the environment of the process."""
    before = dict(os.environ)
    for parameters in ({"useArcManagedIdentity": "1"}, {"usePodIdentity": "1"}, bound(vault)):
        await provider.mount(call(parameters))
    assert dict(os.environ) == before
    assert list((vault.data.folder / "arc").iterdir()) == []
