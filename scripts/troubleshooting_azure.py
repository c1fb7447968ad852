"""Writes docs/operations/troubleshooting-azure.md out of the code that makes the messages.

Run: .venv/bin/python -m scripts.troubleshooting_azure > docs/operations/troubleshooting-azure.md
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from keyferry.answers import Refusal, busy_error
from keyferry.azure.aadsts import EXPLANATIONS
from keyferry.azure.identity_choice import choose_identity, choose_switch
from keyferry.azure.modes import (
    ArcIdentity,
    Identity,
    IdentityBinding,
    PodIdentity,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.azure.objects import ObjectRef, ObjectType
from keyferry.azure.service_account import ServiceAccountToken
from keyferry.azure.token_errors import no_token
from keyferry.azure.token_source import NoTokenInAnswerError, TokenAnswer, TokenRefusedError
from keyferry.azure.vault_refusals import Asked, refusal_error
from keyferry.connection_errors import connection_problem
from keyferry.contract import POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT_TOKENS
from keyferry.errors import KeyferryError
from scripts.troubleshooting_table import Row, cell, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INTRODUCTION = """\
# Troubleshooting Azure Key Vault

Made from the code by `scripts/troubleshooting_azure.py`; a test holds it to the code.

Every failed mount ends with one message: which hop of the journey failed, what was expected and
found there, and what mends it. Words in capitals stand for your own values. No message holds a
secret, a token or the text of an answer.

The hop is in the log line and in the pod's event: `class` (the SecretProviderClass), `identity`
(getting a token), `dns`, `connect` and `tls` (the way to a host), `vault` (the vault as a whole),
`object` (one secret, key or certificate).
"""
_TOKEN = ServiceAccountToken("x", "ISSUER", "SUBJECT")
_BOUND = ServiceAccountToken("x", "ISSUER", "SUBJECT", "api://AKSIdentityBinding")
_POD = {POD_NAME: "POD", POD_NAMESPACE: "NAMESPACE"}
_LOGIN = "login.microsoftonline.com"
_VAULT = "VAULT.vault.azure.net"
_KEY = ConnectionKey(_VAULT, 443, True, True, None, None, None)
_PEM = "-----BEGIN x"


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            _INTRODUCTION,
            table("The class and its Secret (hop `class` or `identity`)", _class_rows()),
            table("The way to a host (hop `dns`, `connect` or `tls`)", _way_rows()),
            table("Services of the machine and of the cluster (hop `identity`)", _machine_rows()),
            _entra_table(),
            table("The vault and its objects (hop `vault` or `object`)", _vault_rows()),
        ]
    )


def _entra_table() -> str:
    lines = [
        "## Entra, by its code (hop `identity`)\n",
        "The message begins with `Entra refuses a token for client id CLIENT_ID:` and ends",
        "with the code.\n",
        "| code | what it means | what to do |",
        "|---|---|---|",
    ]
    fields = {
        "client": "CLIENT_ID",
        "tenant": "TENANT",
        "issuer": "ISSUER",
        "subject": "SUBJECT",
        "audience": "AUDIENCE",
        "credential": "clientsecret or clientcertificate",
    }
    for code, found in sorted(EXPLANATIONS.items()):
        problem, remedy = found.problem.format_map(fields), found.remedy.format_map(fields)
        lines.append(f"| AADSTS{code} | {cell(problem)} | {cell(remedy)} |")
    return "\n".join([*lines, ""])


def _class_rows() -> Iterator[Row]:
    cases: list[tuple[str, Mapping[str, str], Mapping[str, str] | None]] = [
        ("two modes", {"usePodIdentity": "true", "useVMManagedIdentity": "true"}, None),
        ("a flag that is no boolean", {"useVMManagedIdentity": "yes"}, None),
        (
            "two ids",
            {
                "useVMManagedIdentity": "true",
                "userAssignedIdentityID": "ID",
                "userAssignedIdentityObjectID": "ID",
            },
            None,
        ),
        (
            "an id on an Azure Arc machine",
            {"useArcManagedIdentity": "true", "userAssignedIdentityID": "ID"},
            None,
        ),
        ("no mode and no Secret", {}, None),
        ("a Secret without client id", {}, {}),
        ("a Secret without credential", {}, {"clientid": "ID"}),
        (
            "a Secret with two credentials",
            {},
            {"clientid": "ID", "clientsecret": "x", "clientcertificate": _PEM},
        ),
        ("a certificate in another form", {}, {"clientid": "ID", "clientcertificate": "?"}),
        ("workload identity without token", {"clientID": "ID"}, None),
        (
            "workload identity, other audiences only",
            {"clientID": "ID", SERVICE_ACCOUNT_TOKENS: "{}"},
            None,
        ),
        ("identity binding without client id", {"useAzureTokenProxy": "true"}, None),
        (
            "identity binding without token",
            {"useAzureTokenProxy": "true", "clientID": "ID"},
            None,
        ),
    ]
    for when, parameters, secrets in cases:
        try:
            choose_identity(choose_switch(parameters), {**_POD, **parameters}, secrets)
        except KeyferryError as error:
            yield when, error.problem, error.remedy


def _way_rows() -> Iterator[Row]:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    refused = ConnectionRefusedError(111, "Connection refused")
    expired = ssl.SSLCertVerificationError("expired")
    expired.verify_code = 10
    untrusted = ssl.SSLCertVerificationError("untrusted")
    untrusted.verify_code = 20
    cases: list[tuple[str, Exception]] = [
        ("no such host name", aiohttp.ClientConnectorDNSError(_KEY, unknown)),
        ("nobody listens", aiohttp.ClientConnectorError(_KEY, refused)),
        ("a firewall swallows packets", aiohttp.ConnectionTimeoutError()),
        ("no answer in time", TimeoutError()),
        ("a broken answer", aiohttp.ClientPayloadError()),
        ("a proxy that cannot be reached", aiohttp.ClientProxyConnectionError(_KEY, refused)),
        ("an expired certificate", aiohttp.ClientConnectorCertificateError(_KEY, expired)),
        ("an untrusted certificate", aiohttp.ClientConnectorCertificateError(_KEY, untrusted)),
        ("no TLS there", aiohttp.ClientConnectorSSLError(_KEY, OSError(0, "wrong version"))),
    ]
    for when, error in cases:
        found = connection_problem(error, host=_VAULT)
        yield f"{when} ({found.hop.value})", found.problem, found.remedy


def _machine_rows() -> Iterator[Row]:
    nobody = aiohttp.ClientConnectorError(_KEY, ConnectionRefusedError(111, "Connection refused"))
    system, user = VmManagedIdentity(""), VmManagedIdentity("CLIENT_ID")
    arc, pod = ArcIdentity(), PodIdentity("NAMESPACE", "POD")
    binding = IdentityBinding("CLIENT_ID", _BOUND)
    cases: list[tuple[str, Identity, str, Exception | int]] = [
        ("no IMDS", system, "169.254.169.254", nobody),
        ("IMDS: 400, no id in the class", system, "169.254.169.254", 400),
        ("IMDS: 400, an id in the class", user, "169.254.169.254", 400),
        ("IMDS: 403", user, "169.254.169.254", 403),
        ("IMDS: 404, 410, 429, 5xx", user, "169.254.169.254", 410),
        ("no Azure Arc agent", arc, "127.0.0.1:40342", nobody),
        ("Azure Arc: 401, 403", arc, "127.0.0.1:40342", 403),
        ("Azure Arc: 400", arc, "127.0.0.1:40342", 400),
        ("no NMI", pod, "localhost:2579", nobody),
        ("NMI: 403", pod, "localhost:2579", 403),
        ("NMI: 404, 429, 5xx", pod, "localhost:2579", 404),
        ("NMI: no token in the answer", pod, "localhost:2579", NoTokenInAnswerError()),
        ("token proxy: 401 without a code", binding, "kubernetes.default.svc.cluster.local", 401),
        ("Entra: an answer without a code", WorkloadIdentity("CLIENT_ID", _TOKEN), _LOGIN, 400),
        ("Entra: 429, 5xx", WorkloadIdentity("CLIENT_ID", _TOKEN), _LOGIN, 503),
    ]
    for when, identity, host, outcome in cases:
        error = outcome if isinstance(outcome, Exception) else _refused(outcome)
        found = no_token(error, identity=identity, tenant="TENANT", host=host).error
        yield when, found.problem, found.remedy


def _refused(status: int) -> TokenRefusedError:
    return TokenRefusedError(TokenAnswer(status, {}, b""))


def _vault_rows() -> Iterator[Row]:
    secret = ObjectRef(ObjectType.SECRET, "NAME", "")
    app = Asked("VAULT", "TENANT", f"https://{_LOGIN}", WorkloadIdentity("CLIENT_ID", _TOKEN))
    machine = Asked("VAULT", "TENANT", f"https://{_LOGIN}", VmManagedIdentity(""))
    trusts = f'Bearer authorization="https://{_LOGIN}/OTHER-TENANT"'
    cases: list[tuple[str, Refusal, ObjectRef, Asked]] = [
        ("401", Refusal(401, (), trusts), secret, app),
        ("403, a secret", Refusal(403, ("Forbidden",), ""), secret, app),
        (
            "403, a key",
            Refusal(403, ("Forbidden",), ""),
            ObjectRef(ObjectType.KEY, "NAME", ""),
            app,
        ),
        (
            "403, a certificate",
            Refusal(403, ("Forbidden",), ""),
            ObjectRef(ObjectType.CERT, "NAME", ""),
            app,
        ),
        ("403, the identity of a machine", Refusal(403, ("Forbidden",), ""), secret, machine),
        ("403, firewall", Refusal(403, ("Forbidden", "ForbiddenByFirewall"), ""), secret, app),
        ("403, disabled", Refusal(403, ("Forbidden", "SecretDisabled"), ""), secret, app),
        ("404", Refusal(404, ("SecretNotFound",), ""), secret, app),
        (
            "404, a version",
            Refusal(404, ("SecretNotFound",), ""),
            ObjectRef(ObjectType.SECRET, "NAME", "VERSION"),
            app,
        ),
        ("any other status", Refusal(400, ("BadParameter",), ""), secret, app),
    ]
    for when, refusal, ref, asked in cases:
        found = refusal_error(refusal, ref, asked)
        yield when, found.problem, found.remedy
    for status, pause in ((429, 30.0), (503, None)):
        purpose = f"read {secret} from vault VAULT"
        busy = busy_error(status, host=_VAULT, purpose=purpose, pause=pause)
        yield str(status), busy.problem, busy.remedy


if __name__ == "__main__":
    print(page(), end="")
