"""NMI of AAD Pod Identity: tokens for the pod that the headers name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.devvault.clouds import cloud_of_resource
from keyferry.devvault.exchange import Answer, Call, Refused
from keyferry.devvault.imds import managed_token

if TYPE_CHECKING:
    from keyferry.devvault.access_tokens import AccessTokens
    from keyferry.devvault.data import DevVaultData

NMI_HOST = "localhost:2579"
TOKEN_PATH = "/host/token"  # noqa: S105 - a path


class Nmi:
    """Answers for localhost:2579."""

    def __init__(self, data: DevVaultData, tokens: AccessTokens) -> None:
        self._data = data
        self._tokens = tokens

    def answer(self, call: Call) -> Answer:
        """Handle one request.

        Raises:
            Refused: with the answer that says why.
        """
        if call.path.rstrip("/") != TOKEN_PATH or call.method != "GET":
            raise Refused(Answer(404, note="NMI is played for tokens only"))
        pod, namespace = call.headers.get("podname", ""), call.headers.get("podns", "")
        if not pod or not namespace:
            raise Refused(Answer(400, "missing podname or podns header"))
        resource = call.query.get("resource", "")
        if cloud_of_resource(resource) is None:
            raise Refused(Answer(400, f"the resource {resource[:200]} is not known"))
        client_id = self._data.proofs.assigned(namespace, pod)
        if client_id is None:
            note = f"assign one: keyferry devvault identity assign-pod CLIENT_ID -n {namespace}"
            refusal = f"getting assigned identities for pod {namespace}/{pod} failed: none found"
            raise Refused(Answer(403, refusal, note=note))
        identity = self._data.identities.get(client_id)
        lifetime = self._data.behaviour.tuning().token_lifetime
        token = managed_token(self._tokens, call, identity, resource, lifetime=lifetime)
        body = {"token": token, "clientid": identity.client_id}
        return Answer(200, body, principal=identity.client_id)
