"""Explains the Entra error codes that users meet, each with a remedy. [pure]

Entra identifies every error by a number after `AADSTS`. Messages never quote the text that Entra
sends along: it may contain an assertion, and tenant, client and subject are known here anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import excerpt
from keyferry.providers.azure.auth.identity import profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.azure.auth.identity import Identity


class Explanation(Struct, frozen=True):
    """The meaning of one error code and its remedy, as templates for `str.format_map`.

    The fields are client, tenant, issuer, subject, audience and credential (the key of the
    nodePublishSecretRef Secret).

    Attributes:
        problem: completes the sentence "Entra refuses a token for <identity>: ...".
        remedy: a sentence.
    """

    problem: str
    remedy: str


_FEDERATED_REMEDY = (
    "Compare with: az ad app federated-credential list --id {client} (or: az identity "
    "federated-credential list --resource-group GROUP --identity-name NAME). The token has issuer "
    "{issuer}, subject {subject} and audience {audience}."
)
_RESET_REMEDY = (
    "Create a new one with: az ad app credential reset --id {client}, and store its value (not its "
    "ID) under the key clientsecret of the nodePublishSecretRef Secret."
)
_CERTIFICATE_REMEDY = (
    "Register the certificate that is stored under the key clientcertificate with: az ad app "
    "credential reset --id {client} --append --cert @certificate.pem"
)
_CLOUD_REMEDY = (
    "Check cloudName in the SecretProviderClass, and that the tenant belongs to that cloud."
)

EXPLANATIONS: Mapping[int, Explanation] = {
    50001: Explanation("the tenant {tenant} does not know the resource Key Vault", _CLOUD_REMEDY),
    50027: Explanation(
        "the service-account token is malformed or its signature is not valid",
        "Check that the issuer {issuer} publishes the keys with which this cluster signs tokens.",
    ),
    50166: Explanation(
        "Entra could not fetch the keys of the issuer {issuer}",
        "Make the issuer's /.well-known/openid-configuration reachable from the internet.",
    ),
    50034: Explanation(
        "the account does not exist in the tenant {tenant}",
        "Set tenantID to the tenant of the identity: az account show --query tenantId.",
    ),
    50076: Explanation(
        "the tenant {tenant} requires multi-factor authentication, impossible for a workload",
        "Use an application or managed identity, and exempt it from that policy.",
    ),
    50126: Explanation(
        "user name or password is wrong",
        "Use the client ID and secret of an application, not those of a user.",
    ),
    53003: Explanation(
        "a conditional-access policy of the tenant {tenant} blocks it",
        "Ask an administrator of the tenant to check its sign-in log.",
    ),
    65001: Explanation(
        "the application {client} has no consent in the tenant {tenant}",
        "Ask an administrator to grant it: az ad app permission admin-consent --id {client}",
    ),
    70002: Explanation(
        "its credential is wrong", "Check the key {credential} of the nodePublishSecretRef Secret."
    ),
    70011: Explanation("the scope is not valid in the tenant {tenant}", _CLOUD_REMEDY),
    70021: Explanation(
        "none of its federated credentials matches the service-account token", _FEDERATED_REMEDY
    ),
    90002: Explanation(
        "the tenant {tenant} does not exist in this cloud",
        "Set tenantID to the tenant of the identity: az account show --query tenantId.",
    ),
    500011: Explanation("the tenant {tenant} does not know the resource Key Vault", _CLOUD_REMEDY),
    700016: Explanation(
        "the tenant {tenant} has no such application",
        "Set tenantID and the client ID to those of one identity: az ad sp show --id {client}.",
    ),
    700024: Explanation(
        "the service-account token or the application's assertion has expired or is not valid yet",
        "Check the clocks of this machine and of the API server; kubelet renews the token.",
    ),
    700025: Explanation(
        "the application is a public client, which cannot use a credential",
        "Register it as a confidential client: az ad app update --id {client} "
        "--is-fallback-public-client false",
    ),
    700027: Explanation(
        "the certificate of its assertion is not registered, or has expired", _CERTIFICATE_REMEDY
    ),
    700030: Explanation("the certificate of its assertion is not valid", _CERTIFICATE_REMEDY),
    700211: Explanation(
        "none of its federated credentials has the issuer {issuer}", _FEDERATED_REMEDY
    ),
    700212: Explanation(
        "none of its federated credentials has the audience {audience}", _FEDERATED_REMEDY
    ),
    700213: Explanation(
        "none of its federated credentials has the subject {subject}", _FEDERATED_REMEDY
    ),
    900023: Explanation(
        "{tenant} is neither the ID nor a domain name of a tenant",
        "Set tenantID to the output of: az account show --query tenantId.",
    ),
    1002012: Explanation("the scope is not valid in the tenant {tenant}", _CLOUD_REMEDY),
    900382: Explanation("an application cannot sign in across clouds", _CLOUD_REMEDY),
    7000112: Explanation(
        "the application is disabled",
        "Enable it: az ad sp update --id {client} --set accountEnabled=true",
    ),
    7000215: Explanation("the client secret is wrong", _RESET_REMEDY),
    7000216: Explanation("the request carried no credential", _RESET_REMEDY),
    7000218: Explanation("the request carried no credential", _RESET_REMEDY),
    7000229: Explanation(
        "the application {client} has no service principal in the tenant {tenant}",
        "Create one: az ad sp create --id {client}; or set tenantID to its home tenant.",
    ),
    7000222: Explanation("the client secret has expired", _RESET_REMEDY),
}


def explain(code: int, *, identity: Identity, tenant: str) -> Explanation:
    """Return the explanation of `AADSTS<code>` for `identity`, with all fields filled in."""
    unknown = Explanation(
        "Keyferry has no explanation for its error code",
        f"Look it up: https://login.microsoftonline.com/error?code={code}",
    )
    explanation = EXPLANATIONS.get(code, unknown)
    fields = _template_fields(identity, tenant)
    return Explanation(
        explanation.problem.format_map(fields), explanation.remedy.format_map(fields)
    )


def _template_fields(identity: Identity, tenant: str) -> dict[str, str]:
    about = profile(identity)
    token = about.service_account_token
    return {
        "client": excerpt(about.client_id),
        "tenant": tenant,
        "issuer": excerpt(token.issuer or "(unreadable)") if token else "(none)",
        "subject": excerpt(token.subject or "(unreadable)") if token else "(none)",
        "audience": token.audience if token else "(none)",
        "credential": about.credential_key or "(none)",
    }
