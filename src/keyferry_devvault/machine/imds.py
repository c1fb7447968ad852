"""The instance metadata service (IMDS): tokens of the managed identities of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry_devvault.clouds import cloud_of_resource
from keyferry_devvault.http_types import HttpError, Request, Response
from keyferry_devvault.model import Identity, IdentityKind
from keyferry_devvault.storage.identities import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry_devvault.entra.access_tokens import AccessTokens
    from keyferry_devvault.storage.data import DevVaultData

IMDS_TOKEN_PATH = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
_IDENTITY_PARAMETERS: Mapping[str, Callable[[Identity], str]] = {
    "client_id": lambda row: row.client_id,
    "object_id": lambda row: row.object_id,
    "principal_id": lambda row: row.object_id,
    "msi_res_id": lambda row: row.resource_id,
}
"""The query parameters that ask for one identity."""
_API_VERSIONS = ("2018-02-01", "2019-08-01", "2020-06-01", "2021-02-01")


class Imds:
    """Serves 169.254.169.254."""

    def __init__(self, data: DevVaultData, tokens: AccessTokens) -> None:
        self._data = data
        self._tokens = tokens

    def handle(self, request: Request) -> Response:
        """Handle one request.

        Raises:
            HttpError: the error response.
        """
        if request.path.rstrip("/") != IMDS_TOKEN_PATH or request.method != "GET":
            raise HttpError(
                Response(404, note="the development vault emulates only the tokens of IMDS")
            )
        if request.headers.get("metadata", "").lower() != "true":
            raise _bad_request("invalid_request", "Required metadata header not specified")
        if request.query.get("api-version") not in _API_VERSIONS:
            raise HttpError(
                Response(
                    400,
                    {
                        "error": "Bad request. api-version is invalid or was not specified.",
                        "newest-versions": list(reversed(_API_VERSIONS)),
                    },
                )
            )
        return self.token_response(request)

    def token_response(self, request: Request) -> Response:
        """Return the token response to a query.

        Raises:
            HttpError: the error response.
        """
        resource = request.query.get("resource", "")
        if not resource:
            raise _bad_request("invalid_request", "Required query variable 'resource' is missing")
        identity = self._requested_identity(request)
        if cloud_of_resource(resource) is None:
            raise _bad_request(
                "invalid_resource",
                f"AADSTS500011: The resource principal named {resource[:200]} was not found in the"
                f" tenant named {identity.tenant}.",
            )
        lifetime = self._data.fault_injection.tuning().token_lifetime
        body = managed_identity_token(self._tokens, request, identity, resource, lifetime=lifetime)
        return Response(200, body, principal=identity.client_id)

    def _requested_identity(self, request: Request) -> Identity:
        """Return the managed identity that the query names, or the system-assigned one."""
        managed = [row for row in self._data.identities.all() if row.kind is not IdentityKind.APP]
        name, identity = SYSTEM, self._data.identities.system_assigned()
        for parameter, id_of in _IDENTITY_PARAMETERS.items():
            if requested_id := request.query.get(parameter):
                name = requested_id
                identity = next(
                    (row for row in managed if id_of(row).lower() == name.lower()), None
                )
        if identity is None:
            hint = "--system" if name == SYSTEM else name
            raise _bad_request(
                "invalid_request",
                "Identity not found",
                note=f"add it: {self._data.hints.line('identity', 'add-managed', hint)}",
            )
        return identity


def managed_identity_token(
    tokens: AccessTokens, request: Request, identity: Identity, resource: str, *, lifetime: int
) -> dict[str, str]:
    """Return the token response of a managed identity; `lifetime` is in seconds."""
    return {
        "access_token": tokens.issue(
            identity, resource, now=request.received_at, lifetime=lifetime
        ),
        "client_id": identity.client_id,
        "expires_in": str(lifetime),
        "expires_on": str(int(request.received_at) + lifetime),
        "ext_expires_in": str(lifetime),
        "not_before": str(int(request.received_at)),
        "resource": resource,
        "token_type": "Bearer",
    }


def _bad_request(error: str, description: str, note: str = "") -> HttpError:
    return HttpError(Response(400, {"error": error, "error_description": description}, note=note))
