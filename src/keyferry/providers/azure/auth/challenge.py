"""What a vault says with a 401: whose tokens it trusts, and for which resource. [pure]

A challenge comes before anybody has proven to be the vault, so it is believed within limits: a
resource must lie around the vault's host, and of the authority only the tenant is taken, and only
when the authority is that of the cloud of the class.

Source: docs/reference/upstream-azure-provider.md#vault-challenge
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from keyferry.errors import AccessDeniedError, excerpt

_AUTHORITY_ALIASES = {
    "login.windows.net": "login.microsoftonline.com",
    "login.microsoft.com": "login.microsoftonline.com",
    "sts.windows.net": "login.microsoftonline.com",
    "login.partner.microsoftonline.cn": "login.chinacloudapi.cn",
}
"""Other names of the same token endpoints, which vaults use."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A parsed `WWW-Authenticate: Bearer`.

    Attributes:
        authority: host of the token endpoint, in lower case; "" where it is not told.
        tenant: whose tokens the vault trusts; "" where it is not told.
        resource: what they must be for, without a trailing slash; "" where it is not told.
    """

    authority: str
    tenant: str
    resource: str


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """The token that a vault wants.

    Attributes:
        tenant: to get it from.
        resource: to get it for.
    """

    tenant: str
    resource: str


def parse_challenge(header: str) -> Challenge:
    """The challenge in a header; whatever it does not say, or says badly, is ""."""
    found = dict(re.findall(r'([a-z_]{1,40})="?([^",\s]{1,300})"?', header.casefold()))
    url = _https_url(found.get("authorization") or found.get("authorization_uri") or "")
    authority, tenant = (url.hostname or "", url.path.strip("/").split("/")[0]) if url else ("", "")
    if not re.fullmatch(r"[0-9a-z.-]*", tenant):
        tenant = ""
    scope = found.get("scope", "").removesuffix(".default")
    resource = (scope or found.get("resource", "")).rstrip("/")
    return Challenge(authority, tenant, resource if _https_url(resource) else "")


def token_target(
    challenge: Challenge, rejected: TokenTarget, *, host: str, authority: str
) -> TokenTarget:
    """The token to ask for after `challenge`; equal to `rejected` where it says nothing new.

    Args:
        challenge: of the vault.
        rejected: the token that it did not accept.
        host: of the vault.
        authority: the https URL of the token endpoint of the cloud.

    Raises:
        AccessDeniedError: it wants a token for a resource that is not around the vault's host: one
            for somebody else.
    """
    resource = rejected.resource
    if challenge.resource and challenge.resource != rejected.resource.casefold():
        domain = urlsplit(challenge.resource).hostname or ""
        if not host.casefold().endswith(f".{domain}"):
            raise AccessDeniedError(
                f"{host} asks for a token for {excerpt(challenge.resource)}, and its own name "
                "does not lie in that domain (the challenge resource does not match)",
                "Check the name of the vault, and that no proxy answers instead.",
            )
        resource = challenge.resource
    known = urlsplit(authority).hostname or ""
    same_cloud = (
        _AUTHORITY_ALIASES.get(challenge.authority, challenge.authority) == known.casefold()
    )
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
