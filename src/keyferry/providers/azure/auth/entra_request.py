"""What is asked of the token endpoint of Entra and of AD FS: URL, form, signed assertion. [pure]

Nothing is discovered before: the endpoint follows from the authority, which is one of the table of
clouds or of a file of the platform, and from the tenant.

Source: docs/reference/upstream-azure-provider.md#authority-and-tenant
Source: docs/reference/upstream-azure-provider.md#service-principal
Source: docs/reference/upstream-azure-provider.md#workload-identity
Source: docs/reference/upstream-azure-provider.md#identity-binding
Source: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
Source: https://www.rfc-editor.org/rfc/rfc7523
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from keyferry.formats.base64url import encode_base64url

if TYPE_CHECKING:
    from keyferry.formats.certs.client_certificate import ClientCertificate

Form = dict[str, str]

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ADFS_TENANT = "adfs"
ASSERTION_LIFETIME_SECONDS = 600
"""So long an assertion of ours is good: as upstream's, and short, because each is used once."""


def is_adfs(tenant: str) -> bool:
    """Whether `tenant` stands for an AD FS, which has no tenants."""
    return tenant.casefold() == ADFS_TENANT


def token_url(authority: str, tenant: str) -> str:
    """The URL of the token endpoint.

    Args:
        authority: the https URL of Entra, of AD FS or of what stands in for them.
        tenant: an id, a domain name, or `adfs`.
    """
    if is_adfs(tenant):
        # Some describe an AD FS by its host, some by its host and /adfs.
        return f"https://{urlsplit(authority).netloc}/{ADFS_TENANT}/oauth2/token"
    return f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token"


def secret_form(client_id: str, client_secret: str, *, resource: str) -> Form:
    """The form of an application with a client secret."""
    return _base_form(client_id, resource) | {"client_secret": client_secret}


def assertion_form(client_id: str, assertion: str, *, resource: str) -> Form:
    """The form of whoever proves itself by a signed assertion.

    Args:
        client_id: for whom the token is to be.
        assertion: a JWT: of the client itself, or of somebody that it trusts.
        resource: what the token is to be for.
    """
    proof = {"client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    return _base_form(client_id, resource) | proof


def signed_assertion(
    certificate: ClientCertificate, client_id: str, *, url: str, adfs: bool, now: float, jwt_id: str
) -> str:
    """The assertion of an application about itself.

    Args:
        certificate: its certificate and key.
        client_id: the application.
        url: of the token endpoint that it is meant for.
        adfs: whether that is an AD FS, which may be too old for anything but SHA-1 and RS256.
        now: seconds since 1970.
        jwt_id: what no other assertion is called.
    """
    if adfs:
        name = {"alg": "RS256", "x5t": encode_base64url(certificate.sha1)}
    else:
        name = {"alg": "PS256", "x5t#S256": encode_base64url(certificate.sha256)}
    claims = {
        "aud": url,
        "iss": client_id,
        "sub": client_id,
        "jti": jwt_id,
        "nbf": int(now),
        "exp": int(now) + ASSERTION_LIFETIME_SECONDS,
    }
    parts = (msgspec.json.encode({"typ": "JWT"} | name), msgspec.json.encode(claims))
    signed = ".".join(map(encode_base64url, parts))
    sign = certificate.sign_rs256 if adfs else certificate.sign_ps256
    return f"{signed}.{encode_base64url(sign(signed.encode()))}"


def _base_form(client_id: str, resource: str) -> Form:
    return {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "scope": f"{resource}/.default",
    }
