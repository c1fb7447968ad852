"""Emulates the API of HashiCorp Vault and OpenBao in the test process.

Like a real server, it checks logins against roles (subject, namespace, audience, signature), has
tokens that expire and have policies, paths of KV versions 1 and 2, and leases that belong to tokens
and expire with them. `audit` lists all requests. Time passes when the test moves it.

    async with running_vault() as vault:
        vault.add_role("app", accounts=["shop/web"], policy={"secret/data/app/*": {"read"}})
        vault.write("secret", "app/db", {"password": "x"})
        vault.parameters["vaultAddress"]
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.vault_auth import SIGNING_KEY, FakeLease, FakeRole, FakeToken, VaultApiError

WALL_START = 1_700_000_000.0


CAPABILITIES = {
    "GET": "read",
    "LIST": "list",
    "PUT": "update",
    "POST": "update",
    "DELETE": "delete",
}


DEFAULT_POLICY = {
    "auth/token/renew-self": {"update"},
    "auth/token/revoke-self": {"update"},
    "auth/token/lookup-self": {"read"},
    "sys/leases/renew": {"update"},
    "sys/internal/ui/mounts/*": {"read"},
}


class VaultApi:
    """The state of the vault.

    Attributes:
        parameters: SecretProviderClass parameters that select the vault.
        audit: method and path of each request, in order.
        headers: headers of the last request.
        now: current time in seconds; tests move it.
        fault: status and errors of all responses; None for normal responses.
        redirect_to: target that all requests are redirected to; "" for none.
        scripted_responses: responses to the next requests: status and body.
        password_suffix: added to the passwords of new database users.
        issue: returns what a new certificate of a name has in addition.
        close_connections: closes all open connections of a running vault.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, str] = {}
        self.audit: list[tuple[str, str]] = []
        self.headers: Mapping[str, str] = {}
        self.now = 0.0
        self.fault: tuple[int, list[str]] | None = None
        self.redirect_to = ""
        self.scripted_responses: list[tuple[int, bytes]] = []
        self.close_connections: Callable[[], None] = lambda: None
        self.methods: dict[str, str] = {}
        self.roles: dict[tuple[str, str], FakeRole] = {}
        self.tokens: dict[str, FakeToken] = {}
        self.leases: dict[str, FakeLease] = {}
        self.lease_ttl = 60
        self.password_suffix = ""
        self.lease_max_ttl = 600
        self.engines: dict[str, str] = {
            "secret": "kv2",
            "kv": "kv1",
            "database": "db",
            "pki": "pki",
        }
        self.values: dict[tuple[str, str], list[dict[str, Any] | None]] = {}
        self.namespace = ""
        self.created_count = 0
        self.issue: Callable[[str], dict[str, str]] = lambda _: {}

    # --- what a test does -------------------------------------------------------------------------

    def add_role(
        self,
        name: str,
        *,
        mount: str = "kubernetes",
        kind: str = "",
        accounts: list[str] | None = None,
        policy: Mapping[str, set[str]] | None = None,
        **fields: Any,
    ) -> None:
        """Add a role. Its auth method exists from then on."""
        self.methods[mount] = kind or mount
        self.roles[mount, name] = FakeRole(accounts or [], policy=policy or {}, **fields)

    def write(self, mount: str, path: str, value: Mapping[str, Any]) -> None:
        """Write a new version; for KV version 1, the only one."""
        self.values.setdefault((mount, path), []).append(dict(value))

    def delete(self, mount: str, path: str) -> None:
        """Delete the latest version."""
        self.values[mount, path][-1] = None

    def request_count(self, path: str) -> int:
        """Return the number of requests for a path."""
        return sum(1 for _, found in self.audit if found == path)

    @property
    def wall(self) -> float:
        """Return the current time in seconds since 1970."""
        return WALL_START + self.now

    @property
    def database_users(self) -> set[str]:
        """Return the existing database users."""
        return {lease.user for lease in self.leases.values() if self._is_valid(lease)}

    # --- what comes over the wire -----------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        path = request.path.removeprefix("/v1/")
        self.audit.append((request.method, path))
        self.headers = request.headers
        if self.scripted_responses:
            status, body = self.scripted_responses.pop(0)
            return web.Response(status=status, body=body)
        if self.fault is not None:
            status, errors = self.fault
            return web.json_response({"errors": errors}, status=status)
        if self.redirect_to:
            where = {"Location": self.redirect_to + request.path_qs}
            return web.Response(status=307, headers=where)
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else {}
            result = self._dispatch(request, path, body)
        except VaultApiError as refused:
            return web.json_response(refused.body, status=refused.status)
        if result is None:
            return web.Response(status=204)
        envelope = {"request_id": secrets.token_hex(8), "lease_id": "", "renewable": False}
        envelope |= {"lease_duration": 0, "data": None, "wrap_info": None, "warnings": None}
        return web.json_response(envelope | {"auth": None, "mount_type": ""} | result)

    def _dispatch(
        self, request: web.Request, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        if request.headers.get("X-Vault-Namespace", "") != self.namespace:
            raise VaultApiError(403, "permission denied")
        parts = path.split("/")
        if parts == ["sys", "health"]:
            # The caller chooses the status, as in Vault.
            raise VaultApiError(int(request.query.get("activecode", "200")), "chosen")
        if parts[0] == "auth" and parts[-1] == "login":
            return self._log_in("/".join(parts[1:-1]), body, request)
        text = request.headers.get("X-Vault-Token", "")
        token = self.tokens.get(text)
        if token is None or token.expires <= self.now:
            raise VaultApiError(403, "permission denied", "invalid token")
        self._check_policy(token, path, CAPABILITIES.get(request.method, ""))
        match parts:
            case ["auth", "token", "renew-self"]:
                token.expires = self.now + token.ttl
                return {"auth": self._auth_block(text, token)}
            case ["auth", "token", "revoke-self"]:
                del self.tokens[text]
                return None
            case ["sys", "leases", "renew"]:
                return self._renew_lease(body["lease_id"])
            case ["sys", "leases", "revoke"]:
                self.leases.pop(body["lease_id"], None)
                return None
            case ["sys", "internal", "ui", "mounts", mount, *_] if mount in self.engines:
                kind = self.engines[mount]
                options = {"version": kind[2:]} if kind.startswith("kv") else None
                name = {"kv1": "kv", "kv2": "kv", "db": "database"}.get(kind, kind)
                return {"data": {"path": f"{mount}/", "type": name, "options": options}}
            case _:
                return self._read_engine(request, text, parts, body)

    def _check_policy(self, token: FakeToken, path: str, capability: str) -> None:
        rules = {**DEFAULT_POLICY, **token.policy}
        if not any(fnmatchcase(path, rule) and capability in caps for rule, caps in rules.items()):
            raise VaultApiError(403, "1 error occurred:\n\t* permission denied\n\n")

    def _read_engine(
        self, request: web.Request, token: str, parts: list[str], body: dict[str, Any]
    ) -> dict[str, Any]:
        mount, rest = parts[0], parts[1:]
        match self.engines.get(mount), request.method:
            case "kv1", "GET":
                found = self.values.get((mount, "/".join(rest)))
                if not found or found[-1] is None:
                    raise VaultApiError(404)
                return {"data": found[-1], "lease_duration": 2764800}
            case "kv2", "GET":
                return self._read_kv2(mount, rest, request.query.get("version", ""))
            case "db", "GET":
                return self._create_user(token, rest)
            case "pki", "POST" | "PUT":
                self.created_count += 1
                name = body.get("common_name")
                if not name:
                    raise VaultApiError(400, "the common_name field is required")
                data = {
                    "certificate": f"{name} {self.created_count}",
                    "expiration": int(self.wall) + 3600,
                }
                return {"data": data | self.issue(name)}
            case (("db" | "pki" | "kv1" | "kv2"), _):
                raise VaultApiError(405, "1 error occurred:\n\t* unsupported operation\n\n")
            case _:
                raise VaultApiError(
                    404, f'no handler for route "{"/".join(parts)}". route entry not found.'
                )

    def _read_kv2(self, mount: str, rest: list[str], version: str) -> dict[str, Any]:
        if rest[:1] == ["metadata"] and (mount, "/".join(rest[1:])) in self.values:
            return {"data": {"current_version": len(self.values[mount, "/".join(rest[1:])])}}
        if not rest or rest[0] != "data":
            text = "Invalid path for a versioned K/V secrets engine."
            raise VaultApiError(404, warnings=[text])
        found = self.values.get((mount, "/".join(rest[1:])))
        if not found or int(version or 1) > len(found):
            raise VaultApiError(404)
        number = int(version or len(found))
        value = found[number - 1]
        metadata = {
            "created_time": "2026-01-01T00:00:00Z",
            "deletion_time": "" if value is not None else "2026-01-02T00:00:00Z",
            "destroyed": False,
            "version": number,
        }
        if value is None:
            raise VaultApiError(404, data={"data": None, "metadata": metadata})
        return {"data": {"data": value, "metadata": metadata}}

    def _create_user(self, token: str, rest: list[str]) -> dict[str, Any]:
        self.created_count += 1
        user = f"v-{rest[-1]}-{self.created_count}"
        lease_id = f"database/creds/{rest[-1]}/{secrets.token_hex(8)}"
        now, ttl = self.now, self.lease_ttl
        self.leases[lease_id] = FakeLease(token, ttl, now + ttl, now + self.lease_max_ttl, user)
        return {
            "lease_id": lease_id,
            "lease_duration": ttl,
            "renewable": True,
            "data": {"username": user, "password": f"canary-{user}{self.password_suffix}"},
        }

    def _renew_lease(self, lease_id: str) -> dict[str, Any]:
        lease = self.leases.get(lease_id)
        if lease is None or not self._is_valid(lease):
            raise VaultApiError(400, "lease not found")
        lease.expires = min(self.now + lease.ttl, lease.max_expires)
        left = int(lease.expires - self.now)
        return {"lease_id": lease_id, "lease_duration": left, "renewable": True}

    def _is_valid(self, lease: FakeLease) -> bool:
        token = self.tokens.get(lease.token)
        return lease.expires > self.now and token is not None and token.expires > self.now

    # --- logins -----------------------------------------------------------------------------------

    def _log_in(self, mount: str, body: dict[str, Any], request: web.Request) -> dict[str, Any]:
        kind = self.methods.get(mount)
        role: FakeRole | None
        match kind:
            case "kubernetes" | "jwt":
                role, metadata = self._check_jwt(mount, kind, body)
            case "approle":
                given = (body.get("role_id"), body.get("secret_id"))
                role = self._find_role(mount, lambda role: role.secret == given)
                metadata = {}
                if role is None:
                    raise VaultApiError(400, "invalid role or secret ID")
            case "cert":
                found = _peer_fingerprint(request)
                role = self._find_role(mount, lambda role: role.fingerprint == found)
                metadata = {}
                if role is None:
                    raise VaultApiError(
                        400, "invalid certificate or no client certificate supplied"
                    )
            case _:
                raise VaultApiError(403, "permission denied")
        token = f"hvs.{secrets.token_hex(12)}"
        self.tokens[token] = FakeToken(role.policy, role.ttl, self.now + role.ttl, role.renewable)
        return {"auth": self._auth_block(token, self.tokens[token]) | {"metadata": metadata}}

    def _find_role(self, mount: str, matches: Any) -> FakeRole | None:
        return next((r for (m, _), r in self.roles.items() if m == mount and matches(r)), None)

    def _check_jwt(
        self, mount: str, kind: str, body: dict[str, Any]
    ) -> tuple[FakeRole, dict[str, str]]:
        name = body.get("role", "")
        role = self.roles.get((mount, name))
        if role is None and kind == "kubernetes":
            raise VaultApiError(400, f'invalid role name "{name}"')
        if role is None:
            raise VaultApiError(400, f'role "{name}" could not be found')
        head, _, signature = body["jwt"].rpartition(".")
        expected = hmac.digest(SIGNING_KEY, head.encode(), "sha256")
        if not hmac.compare_digest(_base64url_decode(signature), expected):
            raise VaultApiError(403, "permission denied")
        claims = json.loads(_base64url_decode(head.split(".")[1]))
        if role.audience and role.audience not in claims["aud"]:
            raise VaultApiError(
                403,
                "invalid audience (aud) claim: audience claim does not match any expected audience",
            )
        _, _, namespace, account = claims["sub"].split(":")
        bound = claims["kubernetes.io"]
        if role.pod and role.pod != bound["pod"]["name"]:
            raise VaultApiError(
                400, 'error validating claims: claim "pod" does not match any bound claim'
            )
        if f"{namespace}/{account}" not in role.accounts:
            if any(entry.startswith(f"{namespace}/") for entry in role.accounts):
                raise VaultApiError(403, "service account name not authorized")
            raise VaultApiError(403, "namespace not authorized")
        uid = bound["serviceaccount"]["uid"]
        extra = {"service_account_uid": uid} if kind == "kubernetes" else {}
        return role, {"role": name, **extra}

    def _auth_block(self, text: str, token: FakeToken) -> dict[str, Any]:
        return {
            "client_token": text,
            "lease_duration": token.ttl,
            "renewable": token.renewable,
            "metadata": {},
        }


@asynccontextmanager
async def running_vault(
    *, context: ssl.SSLContext | None = None, socket: Path | None = None
) -> AsyncIterator[VaultApi]:
    """Run a vault on loopback or a Unix socket until the block ends.

    Args:
        context: TLS context; None for plain HTTP.
        socket: path of a Unix socket to listen on instead of a port.
    """
    vault = VaultApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", vault.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()

    def close_connections() -> None:
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.close()

    vault.close_connections = close_connections
    try:
        if socket is not None:
            await web.UnixSite(runner, str(socket)).start()
            vault.parameters["vaultAddress"] = f"unix://{socket}"
        else:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            port = runner.addresses[0][1]
            scheme = "https" if context else "http"
            vault.parameters["vaultAddress"] = f"{scheme}://127.0.0.1:{port}"
        yield vault
    finally:
        await runner.cleanup()


def _peer_fingerprint(request: web.Request) -> str:
    ssl_object = request.transport.get_extra_info("ssl_object") if request.transport else None
    found = ssl_object.getpeercert(binary_form=True) if ssl_object else None
    return hashlib.sha256(found).hexdigest() if found else "none"


def _base64url_decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
