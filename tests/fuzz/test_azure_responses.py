"""Any response of a vault, a token endpoint or a proxy, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from keyferry.errors import KeyferryError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.providers.settings import ProviderSettings
from tests.fakes.certificates import issue_certificate, new_ec_key, new_rsa_key
from tests.fakes.clock import AutojumpClock
from tests.fakes.hostile_keyvault import TOKEN, HostileKeyVault, HostileResponse, hostile_keyvault
from tests.fakes.keyvault_peer import entry
from tests.fakes.resilience import uncached_fetcher

CANARY = "canary"
PATIENCE = 50.0
"""Seconds, within the limit of a test: nothing that hangs ends by itself."""

EC, RSA = (
    issue_certificate("test.domain.com", new_ec_key()),
    issue_certificate("test.domain.com", new_rsa_key()),
)


def mostly(*usual: object, rarely: list[object]) -> st.SearchStrategy[object]:
    """One of the usual values nearly always, so that what comes after it is reached as well."""
    return st.sampled_from([*usual * (20 * len(rarely) // len(usual) + 1), *rarely])


IDS = mostly("https://v/x/n/v1", rarely=[None, "", "v1", "https://v/x/n/%2e", "//", 5])
TEXTS = st.sampled_from(
    [
        None, "", CANARY, "AQ", "AQAB", "!" + CANARY, "dGVzdA==", "dGVzdA", "\ud800" + CANARY, 7,
        EC.pkcs12().decode(), EC.pkcs12().decode()[:-8], RSA.pkcs12(EC.certificate).decode(),
        (EC.key_pem + EC.pem).decode(), (RSA.key_pem + EC.pem).decode(), EC.pem.decode(),
        "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\ncanary==\n-----END PRIVATE KEY-----",
    ]
) | st.text(max_size=20).map(lambda text: CANARY + text)  # fmt: skip
KINDS = st.sampled_from(["RSA", "RSA-HSM", "EC", "EC-HSM", "oct", None, CANARY[:2], 1])
CURVES = st.sampled_from(["P-256", "P-384", "P-521", "P-256K", "", None, "P-1"])
PEM, PKCS12 = "application/x-pem-file", "application/x-pkcs12"
TYPES = mostly(PEM, PKCS12, None, rarely=["", "text/plain", 3])
TIMES = mostly(None, 5, 2_000_000_000, rarely=[-1, 10**12, 2**63 - 1, 2**70, "soon", 0.5])
ATTRIBUTES = st.none() | st.fixed_dictionaries(
    {
        "enabled": mostly(True, rarely=[False, None, "x"]),
        "created": TIMES,
        "exp": TIMES,
        "nbf": TIMES,
    }
)
TAGS = mostly(None, {}, {"a": CANARY}, rarely=[{"a": None}, [CANARY]])
DESCRIBED = {"attributes": ATTRIBUTES, "tags": TAGS, "contentType": TYPES}
KIDS = mostly(None, "https://v/keys/n/v1", rarely=["", 5])
SECRETS = st.fixed_dictionaries({"value": TEXTS, "id": IDS, "kid": KIDS, **DESCRIBED})
NUMBERS = dict.fromkeys("nexy", TEXTS)
KEYS = st.fixed_dictionaries(
    {
        "key": st.none()
        | st.fixed_dictionaries({"kid": IDS, "kty": KINDS, "crv": CURVES, **NUMBERS}),
        **DESCRIBED,
    }
)
POLICIES = st.sampled_from([None, {}, {"secret_props": {"contentType": CANARY}}, CANARY])
CERTIFICATES = st.fixed_dictionaries({"cer": TEXTS, "id": IDS, "policy": POLICIES, **DESCRIBED})
LINKS = st.sampled_from(
    [None, None, "", "https://contoso.vault.azure.net/secrets/x/versions?page=2",
     "https://contoso.vault.azure.net:443/keys/x/versions", "https://evil.example/canary",
     "http://contoso.vault.azure.net/", "https://[", "//", 7],
)  # fmt: skip
PAGES = st.fixed_dictionaries(
    {
        "value": st.none()
        | st.lists(st.fixed_dictionaries({"id": IDS, "kid": IDS, "attributes": ATTRIBUTES})),
        "nextLink": LINKS,
    }
)
REFUSALS = st.fixed_dictionaries(
    {
        "error": st.fixed_dictionaries(
            {
                "code": st.sampled_from(
                    ["Forbidden", "SecretNotFound", "VaultNotFound", CANARY * 20]
                ),
                "message": TEXTS,
                "innererror": st.none()
                | st.fixed_dictionaries({"code": st.sampled_from(["SecretDisabled", "x y", None])}),
            }
        )
    }
)


def as_json(value: object) -> bytes:
    """ASCII, so that half a surrogate is one on the way, too."""
    return json.dumps(value).encode()


ANY_BODY = (
    st.binary(max_size=200).map(lambda body: body + CANARY.encode())
    | st.builds(as_json, REFUSALS)
    | st.just(b"[" * 5000)
    | st.just(b'"' + CANARY.encode() * 200_000 + b'"')
)
CHALLENGES = [
    "Bearer",
    # The authority that a vault trusts is shown on purpose; nothing else of a challenge is.
    f'Bearer authorization="https://login.example/", resource="{CANARY}"',
    f'Bearer authorization="{CANARY}"',
    "Basic realm=/etc/passwd",
    'Bearer authorization="https://login.microsoftonline.com/other", resource="https://v.net"',
    'Bearer authorization="https://login.microsoftonline.com/o", resource="https://vault.azure.net"',
]
PAUSES = ["0", "1", "-1", "x", "1e9", "Wed, 21 Oct 2099 07:28:00 GMT"]
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "WWW-Authenticate": st.sampled_from(CHALLENGES),
        "Retry-After": st.sampled_from(PAUSES),
        "Location": st.just(f"https://evil.example/{CANARY}"),
    },
)
STATUSES = st.sampled_from([201, 204, 301, 302, 307, 400, 401, 403, 404, 408, 409, 429, 500, 503])
BAD = st.builds(HostileResponse, STATUSES | st.just(200), ANY_BODY, HEADERS)


def good(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[HostileResponse]:
    """An answer of the right status, that may be of the right shape."""
    return st.builds(HostileResponse, st.just(200), st.builds(as_json, documents), HEADERS)


LISTS = st.lists(good(PAGES) | good(PAGES) | BAD, min_size=1, max_size=4).map(tuple)


def entries(type_: str) -> st.SearchStrategy[str]:
    """Entries of a class that ask for an object of that type."""
    asked = {
        "objectVersionHistory": st.sampled_from([1, 1, 2, 1000]),
        "expiryWarning": st.sampled_from(["0", "1h"]),
    }
    if type_ == "secret":
        asked["objectFormat"] = st.sampled_from(["pem", "pfx", "pkcs12"])
        asked["objectEncoding"] = st.sampled_from(["utf-8", "utf-8", "base64", "hex"])
    return st.builds(entry, st.just(type_), st.just("x"), **asked)


DOCUMENTS = {"secret": SECRETS, "key": KEYS, "cert": CERTIFICATES}
CASES = st.sampled_from(list(DOCUMENTS)).flatmap(
    lambda type_: st.tuples(good(DOCUMENTS[type_]) | BAD, entries(type_))
)


class Fuzzer:
    """A provider, a server with configured responses, and their event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, vault: HostileKeyVault) -> None:
        self.vault = vault
        self._loop = loop
        self._clock = AutojumpClock()
        self._https = HttpsClient(vault.redirect.emulator().https, clock=self._clock)

    def run(self, work: Coroutine[object, object, str]) -> str:
        """What `work` returns."""
        return self._loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def close(self) -> None:
        """End the connections that all providers share."""
        self._loop.run_until_complete(self._https.close())

    def provider(self, *, separate: bool = False) -> AzureProvider:
        """A new one, that has no token yet and waits for nothing."""
        settings = ProviderSettings(separate_files=separate)
        return AzureProvider(self._https, uncached_fetcher(self._clock), settings)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    loop = asyncio.new_event_loop()
    running = hostile_keyvault(tmp_path_factory.mktemp("hostile"))
    made = Fuzzer(loop, loop.run_until_complete(running.__aenter__()))
    try:
        yield made
    finally:
        made.close()
        loop.run_until_complete(running.__aexit__(None, None, None))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def outcome(provider: AzureProvider, parameters: dict[str, str], *entries: str) -> str:
    """What is said of a mount that failed; nothing when it was one, and of the right shape."""
    call = {
        POD_NAME: "web-0",
        POD_NAMESPACE: "shop",
        "keyvaultName": "contoso",
        "tenantID": "t",
        "objects": json.dumps({"array": entries}),
    }
    secrets = {"clientid": "c", "clientsecret": "s"}
    try:
        result = await provider.mount(MountCall(call | parameters, secrets))
    except KeyferryError as error:
        event(type(error).__name__)
        causes = [error, error.__cause__]
        return "".join(str(cause) for cause in causes if cause is not None)
    event("delivered")
    assert len(result.files) == len(result.versions) > 0
    return ""


MACHINE = {"useVMManagedIdentity": "true"}


@given(CASES, LISTS, st.booleans())
def test_any_vault_response_becomes_files_or_a_keyferry_error(
    fuzzer: Fuzzer,
    case: tuple[HostileResponse, str],
    versions: tuple[HostileResponse, ...],
    separate: bool,
) -> None:
    """No other exception, no endless wait, and no text of the response in a message."""
    single, wanted = case
    fuzzer.vault.respond_with(single, versions)
    provider = fuzzer.provider(separate=separate)
    assert CANARY not in fuzzer.run(outcome(provider, MACHINE, wanted))


TOKENS = st.fixed_dictionaries(
    {},
    optional={
        "access_token": TEXTS,
        "expires_in": st.sampled_from([None, 5, "5", -1, "x", 10**30, CANARY]),
        "expires_on": st.sampled_from([None, 5, "5", -1, "x", 10**30, CANARY]),
        "token_type": st.sampled_from(["Bearer", None, 5]),
        "token": st.none() | st.fixed_dictionaries({"access_token": TEXTS}),
        "clientid": TEXTS,
        "error": st.sampled_from(["invalid_client", CANARY, None, 7]),
        "error_description": st.sampled_from(["AADSTS7000215: canary", "AADSTS: canary", None, 7]),
        "error_codes": st.sampled_from([[7000215], [CANARY], 7, None]),
    },
)
MODES = st.sampled_from(
    [MACHINE, {"usePodIdentity": "true"}, {"useArcManagedIdentity": "true"}, {}]
)


@given(good(TOKENS) | st.builds(HostileResponse, STATUSES, st.builds(as_json, TOKENS)) | BAD, MODES)
def test_any_token_response_is_a_token_or_a_keyferry_error(
    fuzzer: Fuzzer, token: HostileResponse, mode: dict[str, str]
) -> None:
    """For IMDS, NMI, the Arc agent and Entra, each in its own form."""
    fuzzer.vault.token = token
    fuzzer.vault.respond_with(
        HostileResponse(200, as_json({"value": "v", "id": "https://v/s/x/v1"}))
    )
    try:
        said = fuzzer.run(outcome(fuzzer.provider(), mode, entry("secret", "x")))
        assert CANARY not in said
    finally:
        fuzzer.vault.token = TOKEN
