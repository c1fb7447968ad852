"""Builds token requests for Entra and AD FS: URL, form, claims of an assertion. [pure]

There is no endpoint discovery: the URL follows from the tenant and the authority, which comes from
the table of clouds or from an environment file.

Source: docs/reference/upstream-azure-provider.md#authority-and-tenant
Source: docs/reference/upstream-azure-provider.md#service-principal
Source: docs/reference/upstream-azure-provider.md#workload-identity
Source: docs/reference/upstream-azure-provider.md#identity-binding
Source: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
Source: https://www.rfc-editor.org/rfc/rfc7523
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

Form = dict[str, str]

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ADFS_TENANT = "adfs"
ASSERTION_LIFETIME_SECONDS = 600
"""The lifetime of an assertion: the same as upstream's, and short because each is used once."""


def is_adfs(tenant: str) -> bool:
    """Return whether `tenant` means AD FS, which has no tenants."""
    return tenant.casefold() == ADFS_TENANT


def token_url(authority: str, tenant: str) -> str:
    """Return the URL of the token endpoint.

    Args:
        authority: the https URL of Entra, AD FS or the AKS token proxy.
        tenant: a tenant ID, a domain name, or `adfs`.
    """
    if is_adfs(tenant):
        # The authority of an AD FS may be written with or without the path /adfs.
        return f"https://{urlsplit(authority).netloc}/{ADFS_TENANT}/oauth2/token"
    return f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token"


def secret_form(client_id: str, client_secret: str, *, resource: str) -> Form:
    """Return the form fields for an application with a client secret."""
    return _base_form(client_id, resource) | {"client_secret": client_secret}


def assertion_form(client_id: str, assertion: str, *, resource: str) -> Form:
    """Return the form fields for a client that authenticates with a signed assertion.

    Args:
        client_id: the client that requests the token.
        assertion: a JWT signed by the client itself, or by an issuer that it trusts.
        resource: the resource that the token is for.
    """
    credential = {"client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    return _base_form(client_id, resource) | credential


def assertion_claims(client_id: str, *, url: str, now: float, jwt_id: str) -> bytes:
    """Return the claims, as JSON, of an assertion that the application signs itself.

    Args:
        client_id: the application.
        url: the token endpoint, which becomes the audience.
        now: seconds since 1970.
        jwt_id: a unique ID.
    """
    return msgspec.json.encode(
        {
            "aud": url,
            "iss": client_id,
            "sub": client_id,
            "jti": jwt_id,
            "nbf": int(now),
            "exp": int(now) + ASSERTION_LIFETIME_SECONDS,
        }
    )


def _base_form(client_id: str, resource: str) -> Form:
    return {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "scope": f"{resource}/.default",
    }
