"""Parses the challenge of a 401 from Key Vault: the tenant and the resource it requires. [pure]

A challenge is untrusted input, so it is followed only within limits:

1. The resource must be a parent domain of the vault's host.
2. Of the authority only the tenant is used, and only if the authority belongs to the configured
   cloud.

Source: docs/reference/upstream-azure-provider.md#vault-challenge
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from keyferry.errors import AccessDeniedError, Denial, excerpt

_AUTHORITY_ALIASES = {
    "login.windows.net": "login.microsoftonline.com",
    "login.microsoft.com": "login.microsoftonline.com",
    "sts.windows.net": "login.microsoftonline.com",
    "login.partner.microsoftonline.cn": "login.chinacloudapi.cn",
}
"""Alternative host names of token endpoints that vaults send."""


class Challenge(Struct, frozen=True):
    """A parsed `WWW-Authenticate: Bearer` header; "" for each part that is missing.

    Attributes:
        authority: the host of the token endpoint, in lower case.
        tenant: the tenant whose tokens the vault trusts.
        resource: the resource that tokens must be for, without a trailing slash.
    """

    authority: str
    tenant: str
    resource: str


class TokenTarget(Struct, frozen=True):
    """The token that a vault requires.

    Attributes:
        tenant: the tenant that issues it.
        resource: the resource that it is for.
    """

    tenant: str
    resource: str


def parse_challenge(header: str) -> Challenge:
    """Parse the header `WWW-Authenticate`; missing and malformed parts become ""."""
    fields = dict(re.findall(r'([a-z_]{1,40})="?([^",\s]{1,300})"?', header.casefold()))
    url = _https_url(fields.get("authorization") or fields.get("authorization_uri") or "")
    authority, tenant = (url.hostname or "", url.path.strip("/").split("/")[0]) if url else ("", "")
    if not re.fullmatch(r"[0-9a-z.-]*", tenant):
        tenant = ""
    scope = fields.get("scope", "").removesuffix(".default")
    resource = (scope or fields.get("resource", "")).rstrip("/")
    return Challenge(authority, tenant, resource if _https_url(resource) else "")


def token_target(
    challenge: Challenge, rejected: TokenTarget, *, host: str, authority: str
) -> TokenTarget:
    """Return the token to request after `challenge`; equal to `rejected` if nothing changes.

    Args:
        challenge: the challenge that the vault sent.
        rejected: the tenant and resource of the rejected token.
        host: the host of the vault.
        authority: the https URL of the cloud's token endpoint.

    Raises:
        AccessDeniedError: the challenge asks for a token for a resource outside of the vault's
            domain. Such a token would be usable against another service.
    """
    resource = rejected.resource
    if challenge.resource and challenge.resource != rejected.resource.casefold():
        domain = urlsplit(challenge.resource).hostname or ""
        if not host.casefold().endswith(f".{domain}"):
            raise AccessDeniedError(
                f"{host} asks for a token for {excerpt(challenge.resource)}, but is not a host in "
                "that domain (the challenge resource does not match)",
                "Check the name of the vault, and that no proxy responds in its place.",
                denial=Denial.TOKEN,
            )
        resource = challenge.resource
    expected = (urlsplit(authority).hostname or "").casefold()
    same_cloud = _AUTHORITY_ALIASES.get(challenge.authority, challenge.authority) == expected
    tenant = rejected.tenant
    if same_cloud and challenge.tenant and challenge.tenant != rejected.tenant.casefold():
        tenant = challenge.tenant
    return TokenTarget(tenant, resource)


def _https_url(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
    except ValueError:
        return None
    return url if url.scheme == "https" and url.hostname else None
