"""Arbitrary responses of a vault or a proxy, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from keyferry.errors import InternalError, KeyferryError
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.api import MountCall
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.product import OPENBAO, VAULT
from keyferry.providers.vault.provider import VaultProvider
from keyferry.records import replace
from tests.fakes.clock import AutojumpClock
from tests.fakes.hostile_vault_api import HostileVaultApi, hostile_vault_api, http_response
from tests.fakes.log import captured_log
from tests.fakes.resilience import uncached_fetcher
from tests.fuzz.vault_documents import (
    CANARY,
    GOOD_LOGIN,
    JWT,
    LOGINS,
    MOUNTS,
    SECRETS,
    as_json,
    either,
)

PATIENCE = 50.0
"""Seconds, within the limit of a test: nothing that hangs ends by itself."""


OF_MOUNTS = max(settings().max_examples // 4, 100)
"""Cases of a mount, which makes requests over real connections."""


OF_LIVES = max(settings().max_examples // 20, 100)
"""Cases of a life of several mounts, which makes a dozen of them."""


TARGET = "/pods/u/volumes/v/mount"


T = TypeVar("T")


ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "secretKey": st.sampled_from(["password", "a", "", "/a/0", "/data", "~", "data"]),
            "encoding": st.sampled_from(["base64", "hex", "utf-8"]),
            "method": st.sampled_from(["GET", "PUT", "LIST"]),
            "secretArgs": st.just({"a": CANARY}),
        },
    ),
    min_size=1,
    max_size=3,
).map(
    lambda entries: json.dumps(
        [
            {"objectName": str(index), "secretPath": "secret/x", **entry}
            for index, entry in enumerate(entries)
        ]
    )
)


@dataclass
class Fuzzer:
    """A server with programmed responses, the event loop of the test, and its unexpected errors."""

    loop: asyncio.AbstractEventLoop
    vault: HostileVaultApi
    https: HttpsClient
    log: StringIO

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run `work` in the event loop and return its result."""
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def provider(
        self, *, openbao: bool = False, clock: AutojumpClock | None = None
    ) -> VaultProvider:
        """Return a new provider without a token, which does not wait between tries."""
        clock = clock or AutojumpClock()
        product = OPENBAO if openbao else VAULT
        settings = VaultSettings(renew_leases=False)
        return VaultProvider(product, self.https, uncached_fetcher(clock), settings, clock=clock)

    def call(self, objects: str, **parameters: str) -> MountCall:
        """Return a mount call for these objects."""
        return MountCall(
            {
                **self.vault.parameters,
                "roleName": "app",
                "objects": objects,
                POD_NAME: "web-0",
                POD_NAMESPACE: "shop",
                POD_UID: "u",
                SERVICE_ACCOUNT: "web",
                SERVICE_ACCOUNT_TOKENS: json.dumps({"vault": {"token": JWT}}),
                "audience": "vault",
                **parameters,
            },
            target_path=TARGET,
        )


@pytest.fixture(scope="module")
def fuzzer() -> Iterator[Fuzzer]:
    loop = asyncio.new_event_loop()
    lost: list[Mapping[str, object]] = []
    loop.set_exception_handler(lambda _, context: lost.append(context))
    running = hostile_vault_api()
    vault = loop.run_until_complete(running.__aenter__())
    https = HttpsClient(HttpsSettings())
    with captured_log(as_json=True) as log:
        try:
            yield Fuzzer(loop, vault, https, log)
        finally:
            loop.run_until_complete(https.close())
            loop.run_until_complete(running.__aexit__(None, None, None))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    assert lost == []
    assert CANARY not in log.getvalue()


async def outcome(provider: VaultProvider, call: MountCall) -> str:
    """Return the error of a failed mount; "" for a successful one with valid content."""
    try:
        result = await provider.mount(call)
    except KeyferryError as error:
        event(type(error).__name__)
        message, is_internal = str(error), isinstance(error, InternalError)
        assert message.isprintable()
        assert not is_internal
        causes = [error, error.__cause__]
        return "".join(f"{cause} {cause!r}" for cause in causes if cause is not None)
    event("delivered")
    assert len(result.files) == len(result.versions) > 0
    assert all(isinstance(file.contents, bytes) for file in result.files)
    return ""


@given(either(SECRETS), either(MOUNTS), ENTRIES, st.booleans())
@settings(max_examples=OF_MOUNTS)
def test_read_response_becomes_files_or_a_keyferry_error(
    fuzzer: Fuzzer, secret: bytes, mount: bytes, objects: str, openbao: bool
) -> None:
    """No other exception, no endless wait, and no text of the response in a message."""
    fuzzer.vault.responses = {
        "auth/kubernetes/login": GOOD_LOGIN,
        "sys/internal/ui/mounts/": mount,
        "secret/": secret,
    }
    provider = fuzzer.provider(openbao=openbao)
    message = fuzzer.run(outcome(provider, fuzzer.call(objects)))
    assert CANARY not in message


@given(either(LOGINS, JWT), either(LOGINS), st.booleans())
@settings(max_examples=OF_MOUNTS)
def test_login_response_is_a_token_or_a_keyferry_error(
    fuzzer: Fuzzer, login: bytes, renewal: bytes, openbao: bool
) -> None:
    """An invalid token is sent in no header. A failed renewal ends in a login."""
    fuzzer.vault.responses = {
        "auth/kubernetes/login": login,
        "auth/token/renew-self": renewal,
        "secret/": http_response(200, as_json({"data": {"a": "v"}})),
    }
    provider = fuzzer.provider(openbao=openbao)
    call = fuzzer.call('[{"objectName": "a", "secretPath": "secret/x", "secretKey": "a"}]')
    for _ in range(2):
        assert CANARY not in fuzzer.run(outcome(provider, call))


@given(
    st.lists(either(SECRETS), min_size=1, max_size=3),
    either(LOGINS),
    either(SECRETS),
    either(st.just({})),
)
@settings(max_examples=OF_LIVES)
def test_lease_manager_tolerates_any_response(
    fuzzer: Fuzzer, made: list[bytes], token: bytes, lease: bytes, revoked: bytes
) -> None:
    """To renewals, new secrets and revocations."""
    fuzzer.vault.responses = {
        "auth/kubernetes/login": GOOD_LOGIN,
        "auth/token/renew-self": token,
        "auth/token/revoke-self": revoked,
        "sys/leases/renew": lease,
        "sys/leases/revoke": revoked,
        "secret/": made[0],
    }
    clock = AutojumpClock()
    provider = fuzzer.provider(clock=clock)
    call = fuzzer.call(
        '[{"objectName": "user", "secretPath": "secret/x"},'
        ' {"objectName": "made", "secretPath": "secret/y", "method": "PUT"}]'
    )

    async def live() -> str:
        message = ""
        for response in made:
            fuzzer.vault.responses = {**fuzzer.vault.responses, "secret/": response}
            message += await outcome(provider, call)
            for _ in range(3):
                clock.elapsed += 19
                await provider.leases.renew_due()
        provider.volume_removed(TARGET)
        await provider.leases.close()
        return message

    assert CANARY not in fuzzer.run(live())


CREDENTIALS = st.text(max_size=20) | st.sampled_from(
    ["a\r\nX-Evil: 1", "\0", "\u00fc", "\ud800", "a b", "\u2028", "a" * 100_000, "\x7f", "\t"]
)


@given(
    st.sampled_from(["approle", "cert", "token", "kubernetes"]),
    st.fixed_dictionaries(
        {
            key: CREDENTIALS.map(lambda text: text and CANARY + text)
            for key in ("token", "role_id", "secret_id", "tls.crt", "tls.key")
        }
    ),
    CREDENTIALS,
)
@settings(max_examples=OF_MOUNTS)
def test_credentials_of_the_pods_secret_are_sent_or_rejected(
    fuzzer: Fuzzer, method: str, credentials: dict[str, str], other: str
) -> None:
    """A credential cannot change the meaning of the header or body that contains it."""
    fuzzer.vault.responses = {
        "auth/": GOOD_LOGIN,
        "": http_response(403, b'{"errors":["permission denied"]}'),
    }
    call = fuzzer.call(
        '[{"objectName": "a", "secretPath": "secret/x"}]',
        vaultAuthMethod=method,
        roleName=f"a{other}",
        audience=other,
        vaultNamespace=other,
        **{SERVICE_ACCOUNT_TOKENS: json.dumps({other.strip(): {"token": CANARY + other}})},
    )
    provider = fuzzer.provider()
    message = fuzzer.run(outcome(provider, replace(call, secrets=credentials)))
    assert CANARY not in message
