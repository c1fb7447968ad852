"""Logins of the vault that runs in the test process: roles, tokens and leases."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

SIGNING_KEY = b"the key of the cluster"


def service_account_token(
    account: str, audience: str = "vault", *, pod: str = "web-0", serial: int = 0, **claims: object
) -> str:
    """Return a token like kubelet sends it, signed with the key of the cluster."""
    namespace, _, name = account.partition("/")
    payload = {
        "iss": "https://cluster.test",
        "sub": f"system:serviceaccount:{namespace}:{name}",
        "aud": [audience],
        "kubernetes.io": {
            "namespace": namespace,
            "pod": {"name": pod, "uid": f"uid-of-{pod}"},
            "serviceaccount": {"name": name, "uid": f"uid-of-{name}"},
        },
        "jti": serial,
        **claims,
    }
    header = _base64url_encode(json.dumps({"alg": "HS256"}))
    body = f"{header}.{_base64url_encode(json.dumps(payload))}"
    signature = hmac.digest(SIGNING_KEY, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@dataclass
class FakeRole:
    """The requirements of a role of an auth method, and the tokens that it issues."""

    accounts: list[str] = field(default_factory=list)
    audience: str = "vault"
    policy: Mapping[str, set[str]] = field(default_factory=dict)
    ttl: int = 1200
    renewable: bool = True
    secret: tuple[str, str] = ("", "")
    fingerprint: str = ""
    pod: str = ""


@dataclass
class FakeToken:
    """An issued token."""

    policy: Mapping[str, set[str]]
    ttl: int
    expires: float
    renewable: bool


@dataclass
class FakeLease:
    """The lease of an issued secret."""

    token: str
    ttl: int
    expires: float
    max_expires: float
    user: str


class VaultApiError(Exception):
    """An error response with `errors`."""

    def __init__(
        self,
        status: int,
        *errors: str,
        warnings: list[str] | None = None,
        data: dict[str, object] | None = None,
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body: dict[str, object] = {"errors": list(errors)} if data is None else {"data": data}
        if warnings:
            self.body["warnings"] = warnings


def _base64url_encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
