"""Whatever a vault or a proxy in between may answer, over real connections."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from keyferry.contract import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    MountCall,
)
from keyferry.errors import InternalError, KeyferryError
from keyferry.https import HttpsClient, HttpsSettings
from keyferry.vault.product import OPENBAO, VAULT
from keyferry.vault.provider import VaultProvider
from keyferry.vault_settings import VaultSettings
from tests.fakes.clock import StillClock
from tests.fakes.economy import forgetful
from tests.fakes.hostile_api import HostileApi, hostile_api, reply
from tests.fakes.log import captured_log

CANARY = "canary-value"
PATIENCE = 50.0
"""Seconds, within the limit of a test: nothing that hangs ends by itself."""
OF_MOUNTS = max(settings().max_examples // 4, 100)
"""Cases of a mount, which makes requests over real connections."""
OF_LIVES = max(settings().max_examples // 20, 100)
"""Cases of a life of several mounts, which makes a dozen of them."""
TARGET = "/pods/u/volumes/v/mount"
T = TypeVar("T")


def mostly(*usual: object, rarely: list[object]) -> st.SearchStrategy[object]:
    """One of the usual values nearly always, so that what comes after it is reached as well."""
    return st.sampled_from([*usual * (20 * len(rarely) // len(usual) + 1), *rarely])


class Written:
    """A number of JSON by its letters, which Python would not write so."""

    def __init__(self, letters: str) -> None:
        self.letters = letters


NUMBERS = [
    Written(letters)
    for letters in ("1e999", "-1e999", "NaN", "Infinity", "-0", "1E-400", "9" * 400, "1.50", "1e3")
]
TEXTS = st.sampled_from(
    [CANARY, "", CANARY * 40, f"{CANARY}\r\nX-Vault-Token: x", f"\0{CANARY}", "\ud800" + CANARY]
) | st.text(max_size=12).map(lambda text: CANARY + text)
KEYS = st.sampled_from(
    ["password", "data", "metadata", "errors", "certificate", "expiration", "a", "", "/", "~0"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(NUMBERS) | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


def says(token: str) -> st.SearchStrategy[object]:
    """What a vault says to people: passed on, but for what repeats the token that it got."""
    words = st.sampled_from(
        [
            "permission denied", f"token {token}", "invalid role name", "Vault is sealed",
            "standby", "no handler for route", "unknown role", "\n\t\u202e", "\ud800",
            "invalid audience (aud) claim", "Invalid path for a versioned K/V secrets engine",
        ]
    ) | st.text(max_size=400)  # fmt: skip
    return st.lists(words, max_size=5) | words | st.lists(st.lists(words)) | st.integers()


TOKEN, JWT = f"hvs.{CANARY}", f"a.{CANARY}.b"
SAID = says(TOKEN)
SECONDS = mostly(0, 60, 2764800, rarely=[-1, None, 10**30, "60", *NUMBERS])
TOKENS = mostly(
    TOKEN,
    rarely=["", None, 5, f"{CANARY}\r\nX-Evil: 1", f"{CANARY}\u00fc", f"a {CANARY}", "a" * 9000],
)
AUTHS = st.fixed_dictionaries(
    {"client_token": TOKENS, "lease_duration": SECONDS, "renewable": st.booleans()},
    optional={
        "metadata": mostly({}, {"service_account_uid": "u"}, rarely=[None, 7, [CANARY]]),
        "mfa_requirement": mostly(None, {"mfa_request_id": CANARY}, rarely=[CANARY, []]),
        "policies": VALUES,
    },
)
WRAPS = st.fixed_dictionaries({"token": TEXTS, "ttl": SECONDS}, optional={"accessor": VALUES})
DATA = (
    st.dictionaries(KEYS, VALUES, max_size=4)
    | st.fixed_dictionaries({"data": st.dictionaries(KEYS, VALUES, max_size=4)})
    | st.fixed_dictionaries({"certificate": TEXTS, "expiration": SECONDS})
)
LEASES = mostly("", f"database/creds/x/{CANARY}", rarely=[None, 5, "\0", "\ud800"])
SECRETS = st.fixed_dictionaries(
    {"lease_id": LEASES, "lease_duration": SECONDS, "renewable": st.booleans(), "data": DATA},
    optional={
        "request_id": VALUES,
        "warnings": SAID,
        "auth": st.none() | AUTHS | VALUES,
        "wrap_info": st.none() | WRAPS | VALUES,
        "mount_type": mostly("kv", rarely=["", None, 5, CANARY]),
        "errors": SAID,
    },
)
LOGINS = st.fixed_dictionaries({"auth": mostly(None, rarely=[CANARY, []]) | AUTHS | AUTHS})


def refusals(token: str) -> st.SearchStrategy[dict[str, object]]:
    """To a request with that token."""
    said = says(token)
    return st.fixed_dictionaries({"errors": said}, optional={"warnings": said, "data": VALUES})


MOUNTS = st.fixed_dictionaries(
    {
        "data": VALUES
        | st.fixed_dictionaries(
            {
                "path": mostly("secret/", rarely=["", "/", CANARY, None, "x" * 5000]),
                "type": mostly("kv", "pki", rarely=[None, CANARY, ""]),
                "options": mostly({"version": "2"}, {"version": "1"}, rarely=[None, 2, CANARY]),
            }
        )
    }
)


def as_json(value: object) -> bytes:
    """ASCII, with numbers by their letters."""
    written: list[str] = []

    def mark(found: Any) -> str:
        written.append(found.letters)
        return f"\0{len(written) - 1}\0"

    text = json.dumps(value, default=mark)
    for index, letters in enumerate(written):
        text = text.replace(f'"\\u0000{index}\\u0000"', letters)
    return text.encode()


STATUSES = st.sampled_from(
    [200, 201, 204, 301, 302, 307, 308, 400, 403, 404, 405, 412, 429, 472, 473, 500, 502, 503]
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Retry-After": st.sampled_from(
            ["0", "1", "-1", "x", "1e9", "NaN", "Wed, 21 Oct 2099 07:28:00 GMT"]
        ),
        "Location": st.sampled_from(
            [
                "/v1/x", "//", "https://[", "http://h:99999/", "http://h:-1/", "file:///etc/passwd",
                "http://\u00fc/", "http:///", "\x01", "http://127.0.0.1:1/" + "a" * 9000, "?" * 50,
            ]
        ),
        "Content-Type": st.sampled_from(["text/html", "application/json; charset=utf-16", ";"]),
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "deflate", "zstd"]),
    },
)  # fmt: skip
ODD_BODIES = st.binary(max_size=60).map(lambda body: body + CANARY.encode()) | st.sampled_from(
    [
        b"", b" ", b"null", b"[]", b"7", b'"%s"' % CANARY.encode(), b"[" * 50_000,
        b'{"data":' * 20_000 + b"1" + b"}" * 20_000, b'{"data":{"a":"\xff"}}',
        b'{"data":{"password":"x","password":"%s"},"data":{}}' % CANARY.encode(),
        b'{"data":{"a":"%s"}}' % (CANARY.encode() * 100_000), gzip.compress(b"a" * (1 << 21)),
        b'\xef\xbb\xbf{"data":{}}', b"<html>%s</html>" % CANARY.encode(),
    ]
)  # fmt: skip
WIRE = st.sampled_from(
    [
        b"", b"\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 999 X\r\n\r\n", b"HTTP/1.1 2000 X\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n%s\0: \0\r\n\r\n" % CANARY.encode(),
        b"HTTP/1.1 %s\r\n\r\n" % CANARY.encode(),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b" + CANARY.encode(),
    ]
)  # fmt: skip


def bad(documents: st.SearchStrategy[Any], token: str) -> st.SearchStrategy[bytes]:
    """An answer that may be of any status and form."""
    bodies = st.builds(as_json, refusals(token)) | ODD_BODIES | st.builds(as_json, documents)
    return st.builds(reply, STATUSES, bodies, HEADERS) | WIRE


def good(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """An answer of the right status, that may be of the right form."""
    return st.builds(reply, st.just(200), st.builds(as_json, documents))


def either(documents: st.SearchStrategy[Any], token: str = TOKEN) -> st.SearchStrategy[bytes]:
    """One of the two, to a request with that token."""
    return good(documents) | bad(documents, token)


GOOD_LOGIN = reply(
    200,
    as_json({"auth": {"client_token": TOKEN, "lease_duration": 60, "renewable": True}}),
)
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
    """A server that answers as it is told, the loop in which all runs, and what was left over."""

    loop: asyncio.AbstractEventLoop
    vault: HostileApi
    https: HttpsClient
    log: StringIO

    def run(self, work: Coroutine[object, object, T]) -> T:
        """What `work` returns."""
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def provider(self, *, openbao: bool = False, clock: StillClock | None = None) -> VaultProvider:
        """A new one, that has no token yet and waits for nothing."""
        clock = clock or StillClock()
        product = OPENBAO if openbao else VAULT
        settings = VaultSettings(keeps_leases=False)
        return VaultProvider(product, self.https, forgetful(clock), settings, clock=clock)

    def call(self, objects: str, **parameters: str) -> MountCall:
        """A call for these objects."""
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
    running = hostile_api()
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
    """What is said of a mount that failed; nothing when it was one, and of the right shape."""
    try:
        result = await provider.mount(call)
    except KeyferryError as error:
        event(type(error).__name__)
        said, ours = str(error), isinstance(error, InternalError)
        assert said.isprintable()
        assert not ours
        causes = [error, error.__cause__]
        return "".join(f"{cause} {cause!r}" for cause in causes if cause is not None)
    event("delivered")
    assert len(result.files) == len(result.versions) > 0
    assert all(isinstance(file.contents, bytes) for file in result.files)
    return ""


@given(either(SECRETS), either(MOUNTS), ENTRIES, st.booleans())
@settings(max_examples=OF_MOUNTS)
def test_an_answer_of_the_vault_becomes_files_or_an_error_of_ours(
    fuzzer: Fuzzer, secret: bytes, mount: bytes, objects: str, openbao: bool
) -> None:
    """No other exception, no wait without end, and no text of the answer in a message."""
    fuzzer.vault.says = {
        "auth/kubernetes/login": GOOD_LOGIN,
        "sys/internal/ui/mounts/": mount,
        "secret/": secret,
    }
    provider = fuzzer.provider(openbao=openbao)
    said = fuzzer.run(outcome(provider, fuzzer.call(objects)))
    assert CANARY not in said


@given(either(LOGINS, JWT), either(LOGINS), st.booleans())
@settings(max_examples=OF_MOUNTS)
def test_an_answer_to_a_login_is_a_token_or_an_error_of_ours(
    fuzzer: Fuzzer, login: bytes, renewal: bytes, openbao: bool
) -> None:
    """What is no token goes into no header; a renewal that fails ends in a login."""
    fuzzer.vault.says = {
        "auth/kubernetes/login": login,
        "auth/token/renew-self": renewal,
        "secret/": reply(200, as_json({"data": {"a": "v"}})),
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
def test_what_is_held_for_a_pod_outlives_any_answer(
    fuzzer: Fuzzer, made: list[bytes], token: bytes, lease: bytes, revoked: bytes
) -> None:
    """Renewals, new secrets and revocations may be answered as they like; nothing else fails."""
    fuzzer.vault.says = {
        "auth/kubernetes/login": GOOD_LOGIN,
        "auth/token/renew-self": token,
        "auth/token/revoke-self": revoked,
        "sys/leases/renew": lease,
        "sys/leases/revoke": revoked,
        "secret/": made[0],
    }
    clock = StillClock()
    provider = fuzzer.provider(clock=clock)
    call = fuzzer.call(
        '[{"objectName": "user", "secretPath": "secret/x"},'
        ' {"objectName": "made", "secretPath": "secret/y", "method": "PUT"}]'
    )

    async def live() -> str:
        said = ""
        for answer in made:
            fuzzer.vault.says = {**fuzzer.vault.says, "secret/": answer}
            said += await outcome(provider, call)
            for _ in range(3):
                clock.elapsed += 19
                await provider.leases.tend()
        provider.volume_gone(TARGET)
        await provider.leases.close()
        return said

    assert CANARY not in fuzzer.run(live())


PROOFS = st.text(max_size=20) | st.sampled_from(
    ["a\r\nX-Evil: 1", "\0", "\u00fc", "\ud800", "a b", "\u2028", "a" * 100_000, "\x7f", "\t"]
)


@given(
    st.sampled_from(["approle", "cert", "token", "kubernetes"]),
    st.fixed_dictionaries(
        {
            key: PROOFS.map(lambda text: text and CANARY + text)
            for key in ("token", "role_id", "secret_id", "tls.crt", "tls.key")
        }
    ),
    PROOFS,
)
@settings(max_examples=OF_MOUNTS)
def test_whatever_the_secret_of_a_pod_holds_is_sent_or_refused(
    fuzzer: Fuzzer, method: str, proofs: dict[str, str], other: str
) -> None:
    """A proof goes into a header or a body, never as a part of either that means something."""
    fuzzer.vault.says = {"auth/": GOOD_LOGIN, "": reply(403, b'{"errors":["permission denied"]}')}
    call = fuzzer.call(
        '[{"objectName": "a", "secretPath": "secret/x"}]',
        vaultAuthMethod=method,
        roleName=f"a{other}",
        audience=other,
        vaultNamespace=other,
        **{SERVICE_ACCOUNT_TOKENS: json.dumps({other.strip(): {"token": CANARY + other}})},
    )
    provider = fuzzer.provider()
    said = fuzzer.run(outcome(provider, replace(call, secrets=proofs)))
    assert CANARY not in said
