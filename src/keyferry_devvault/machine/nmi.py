"""NMI of AAD Pod Identity: tokens for the pod that the request headers name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry_devvault.clouds import cloud_of_resource
from keyferry_devvault.http_types import HttpError, Request, Response
from keyferry_devvault.machine.imds import managed_identity_token

if TYPE_CHECKING:
    from keyferry_devvault.entra.access_tokens import AccessTokens
    from keyferry_devvault.storage.data import DevVaultData

NMI_HOST = "localhost:2579"
NMI_TOKEN_PATH = "/host/token"  # noqa: S105 - a path


class Nmi:
    """Serves localhost:2579."""

    def __init__(self, data: DevVaultData, tokens: AccessTokens) -> None:
        self._data = data
        self._tokens = tokens

    def handle(self, request: Request) -> Response:
        """Handle one request.

        Raises:
            HttpError: the error response.
        """
        if request.path.rstrip("/") != NMI_TOKEN_PATH or request.method != "GET":
            raise HttpError(
                Response(404, note="the development vault emulates only the tokens of NMI")
            )
        pod, namespace = request.headers.get("podname", ""), request.headers.get("podns", "")
        if not pod or not namespace:
            raise HttpError(Response(400, "missing podname or podns header"))
        resource = request.query.get("resource", "")
        if cloud_of_resource(resource) is None:
            raise HttpError(Response(400, f"the resource {resource[:200]} is not known"))
        client_id = self._data.credentials.identity_of_pod(namespace, pod)
        if client_id is None:
            command = self._data.hints.line("identity", "assign-pod", "CLIENT_ID", "-n", namespace)
            message = f"getting assigned identities for pod {namespace}/{pod} failed: none found"
            raise HttpError(Response(403, message, note=f"assign one: {command}"))
        identity = self._data.identities.get(client_id)
        lifetime = self._data.fault_injection.tuning().token_lifetime
        token = managed_identity_token(self._tokens, request, identity, resource, lifetime=lifetime)
        body = {"token": token, "clientid": identity.client_id}
        return Response(200, body, principal=identity.client_id)
