"""Writes docs/operations/troubleshooting-vault.md out of the code that makes the messages.

Run: .venv/bin/python -m scripts.troubleshooting_vault > docs/operations/troubleshooting-vault.md
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from keyferry.errors import KeyferryError
from keyferry.vault.answer import Answer
from keyferry.vault.login import AppRoleLogin, CertLogin, JwtLogin, Login, Pod
from keyferry.vault.login_refusals import login_error
from keyferry.vault.objects import parse_objects
from keyferry.vault.params import parse_mount
from keyferry.vault.pod_tokens import NoPodTokens
from keyferry.vault.product import VAULT
from keyferry.vault.read_refusals import Engine, read_error
from keyferry.vault.render import render
from keyferry.vault.server import Server, parse_address
from keyferry.vault.unavailable import unavailable_error
from keyferry.vault.unreachable import no_tls_problem, vault_problem
from keyferry.vault_settings import VaultSettings
from scripts.troubleshooting_table import Row, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INTRODUCTION = """\
# Troubleshooting Vault and OpenBao

Made from the code by `scripts/troubleshooting_vault.py`; a test holds it to the code.

Every failed mount ends with one message that begins with `error making mount request: `: which
hop of the journey failed, what was found there in the vault's own words, and what mends it. Words
in capitals stand for your own values. No message holds a secret or a token.

The hop is in the log line and in the pod's event: `class` (the SecretProviderClass), `identity`
(the login), `dns`, `connect` and `tls` (the way to the vault), `vault` (the vault as a whole),
`object` (one path). With OpenBao the commands are those of `bao`, and parameters may begin with
`bao`.
"""
_SERVER = Server(parse_address("https://VAULT:8200"), "NAMESPACE")
_ROOT = Server(parse_address("https://VAULT:8200"))
_POD = Pod("NAMESPACE", "POD", "UID", "ACCOUNT")
_LOGIN = Login(_ROOT, "kubernetes", JwtLogin("ROLE", "AUDIENCE"), _POD)
_JWT = Login(_ROOT, "jwt", JwtLogin("ROLE", "AUDIENCE"), _POD)
_KEY = ConnectionKey("VAULT", 8200, True, True, None, None, None)
_OBJECTS = "- {objectName: FILE, secretPath: PATH}"


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            _INTRODUCTION,
            table("The class and its Secret (hop `class` or `identity`)", _class_rows()),
            table("The way to the vault (hop `dns`, `connect` or `tls`)", _way_rows()),
            table("The login (hop `identity`)", _login_rows()),
            table("The vault as a whole (hop `vault`)", _vault_rows()),
            table("One path (hop `vault` or `object`)", _read_rows()),
            table("One key of an answer (hop `object`)", _key_rows()),
        ]
    )


def _class_rows() -> Iterator[Row]:
    cases: list[tuple[str, Mapping[str, str], Mapping[str, str] | None]] = [
        ("no role", {"roleName": ""}, None),
        ("no objects", {"objects": ""}, None),
        ("objects as for Azure", {"objects": "array: []"}, None),
        ("no path", {"objects": "- {objectName: FILE}"}, None),
        ("a field in other letters", {"objects": "- {objectname: FILE, secretPath: PATH}"}, None),
        (
            "a mode without its 0",
            {"objects": "- {objectName: FILE, secretPath: PATH, filePermission: 644}"},
            None,
        ),
        ("two objects of one name", {"objects": f"{_OBJECTS}\n{_OBJECTS}"}, None),
        ("two mounts", {"vaultKubernetesMountPath": "", "vaultAuthMountPath": ""}, None),
        ("a boolean that is none", {"vaultSkipTLSVerify": "yes"}, None),
        ("an address without scheme", {"vaultAddress": "VAULT:8200"}, None),
        ("half a client certificate", {"vaultTLSClientCertPath": "FILE"}, None),
        ("an unknown method", {"vaultAuthMethod": "METHOD"}, None),
        ("AppRole without its Secret", {"vaultAuthMethod": "approle"}, None),
        ("a certificate without its Secret", {"vaultAuthMethod": "cert"}, None),
        ("a token that is none", {"vaultAuthMethod": "token"}, {"token": "A B"}),
        ("a mount that can be none", {"vaultAuthMountPath": "A B"}, None),
        ("a namespace that can be none", {"vaultNamespace": "A B"}, None),
    ]
    for when, parameters, secrets in cases:
        given = {"roleName": "ROLE", "objects": _OBJECTS, **parameters}
        try:
            parse_mount(given, secrets, target_path="/t", product=VAULT, settings=VaultSettings())
        except KeyferryError as error:
            yield when, error.problem, error.remedy
    try:
        asyncio.run(NoPodTokens(VAULT).make(_POD, ""))
    except KeyferryError as error:
        yield "no token of that audience", error.problem, error.remedy


def _way_rows() -> Iterator[Row]:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    refused = ConnectionRefusedError(111, "Connection refused")
    cases: list[tuple[str, Exception]] = [
        ("no such host name", aiohttp.ClientConnectorDNSError(_KEY, unknown)),
        ("nobody listens", aiohttp.ClientConnectorError(_KEY, refused)),
        ("a firewall swallows packets", aiohttp.ConnectionTimeoutError()),
        ("no answer in time", TimeoutError()),
        ("no client certificate", aiohttp.ClientOSError(1, "TLSV13_ALERT_CERTIFICATE_REQUIRED")),
        ("no TLS there", aiohttp.ClientConnectorSSLError(_KEY, OSError(0, "wrong version"))),
    ]
    for when, code in (
        ("an untrusted CA", 20),
        ("another name", 62),
        ("an expired certificate", 10),
        ("a CA that is not marked as one", 79),
        ("a CA that Python 3.13 refuses", 85),
    ):
        bad = ssl.SSLCertVerificationError(when)
        bad.verify_code = code
        cases.append((when, aiohttp.ClientConnectorCertificateError(_KEY, bad)))
    rows = [(when, vault_problem(error, _ROOT, None)) for when, error in cases]
    rows.append(("TLS there, and http:// in the class", no_tls_problem(_ROOT)))
    for when, found in rows:
        yield f"{when} ({found.hop.value})", found.problem, found.remedy


def _login_rows() -> Iterator[Row]:
    app_role = Login(_ROOT, "approle", AppRoleLogin("ROLE_ID", "x"), _POD)
    cert = Login(_ROOT, "cert", CertLogin("ROLE"), _POD)
    inner = Login(_SERVER, "kubernetes", JwtLogin("ROLE", "AUDIENCE"), _POD)
    cases: list[tuple[str, int, str, Login]] = [
        ("no such role", 400, 'invalid role name "ROLE"', _LOGIN),
        ("no such role (jwt)", 400, 'role "ROLE" could not be found', _JWT),
        ("another service account", 403, "service account name not authorized", _LOGIN),
        ("another namespace of the cluster", 403, "namespace not authorized", _LOGIN),
        ("another service account (jwt)", 400, "invalid subject (sub) claim", _JWT),
        ("another audience", 400, "invalid audience (aud) claim", _LOGIN),
        ("another claim", 400, "claim X does not match any associated bound claim", _JWT),
        ("another cluster", 400, "invalid issuer (iss) claim", _JWT),
        ("keys of another cluster", 400, "error verifying token signature", _JWT),
        ("the reviewer is not let in", 403, "lookup failed: service account unauthorized", _LOGIN),
        ("no such auth method, or no word why", 403, "permission denied", _LOGIN),
        ("no such namespace", 404, "namespace not found", inner),
        ("AppRole", 400, "invalid role or secret ID", app_role),
        ("a client certificate", 400, "invalid certificate or no client certificate", cert),
    ]
    for when, status, text, login in cases:
        found = login_error(status, (text,), login)
        yield when, found.problem, found.remedy


def _vault_rows() -> Iterator[Row]:
    cases: list[tuple[str, int, str, float | None]] = [
        ("sealed", 503, "Vault is sealed", None),
        ("a standby node alone", 503, "Vault is in standby mode", None),
        ("a quota", 429, "request path exceeded the quota", 30.0),
        ("a replica behind", 412, "required index state not present", None),
        ("a back end of an engine", 500, "WORDS OF THE DATABASE", None),
    ]
    for when, status, text, pause in cases:
        found = unavailable_error(status, (text,), _ROOT, "read PATH from vault VAULT:8200", pause)
        yield f"{when} ({status})", found.problem, found.remedy


def _read_rows() -> Iterator[Row]:
    kv1, kv2 = Engine("MOUNT", "kv", 1), Engine("MOUNT", "kv", 2)
    pki = Engine("MOUNT", "pki")
    cases: list[tuple[str, int, str, str, Engine | None]] = [
        ("the policy", 403, "permission denied", "secretPath: MOUNT/data/PATH", None),
        ("the policy, KV 2 without data/", 403, "permission denied", "secretPath: MOUNT/PATH", kv2),
        ("KV 2 without data/", 404, "Invalid path", "secretPath: MOUNT/PATH", kv2),
        ("KV 1 with data/", 404, "", "secretPath: MOUNT/data/PATH", kv1),
        ("nothing there", 404, "", "secretPath: MOUNT/data/PATH", kv2),
        ("no engine", 404, "no handler for route", "secretPath: MOUNT/PATH", None),
        ("GET at PKI", 403, "permission denied", "secretPath: MOUNT/issue/ROLE", pki),
        ("another method", 405, "unsupported operation", "secretPath: MOUNT/issue/ROLE", pki),
        ("no such role", 400, "unknown role: ROLE", "secretPath: MOUNT/creds/ROLE", None),
        (
            "arguments",
            400,
            "common name X not allowed by this role",
            "secretPath: MOUNT/issue/ROLE, method: PUT, secretArgs: {common_name: X}",
            None,
        ),
    ]
    for when, status, text, fields, engine in cases:
        (found,) = parse_objects(f"- {{objectName: FILE, {fields}}}")
        errors = (text,) if text else ()
        error = read_error(status, errors, found.request, _LOGIN, engine=engine)
        yield f"{when} ({status})", error.problem, error.remedy


def _key_rows() -> Iterator[Row]:
    cases: list[tuple[str, str, Answer]] = [
        ("no such key", "secretKey: KEY", Answer(data={"OTHER": "x"})),
        ("another encoding", "secretKey: KEY, encoding: hex", Answer(data={"KEY": "x"})),
        ("an empty answer", "secretKey: KEY", Answer()),
    ]
    for when, fields, answer in cases:
        (found,) = parse_objects(f"- {{objectName: FILE, secretPath: PATH, {fields}}}")
        try:
            render(found, answer, VAULT)
        except KeyferryError as error:
            yield when, error.problem, error.remedy


if __name__ == "__main__":
    print(page(), end="")
