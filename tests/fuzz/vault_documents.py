"""Answers of a vault, or of a proxy in between: of the right form, nearly of it, and of none."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import strategies as st

from tests.fakes.hostile_vault_api import http_response

CANARY = "canary-value"


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
    return st.builds(http_response, STATUSES, bodies, HEADERS) | WIRE


def good(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """An answer of the right status, that may be of the right form."""
    return st.builds(http_response, st.just(200), st.builds(as_json, documents))


def either(documents: st.SearchStrategy[Any], token: str = TOKEN) -> st.SearchStrategy[bytes]:
    """One of the two, to a request with that token."""
    return good(documents) | bad(documents, token)


GOOD_LOGIN = http_response(
    200,
    as_json({"auth": {"client_token": TOKEN, "lease_duration": 60, "renewable": True}}),
)
