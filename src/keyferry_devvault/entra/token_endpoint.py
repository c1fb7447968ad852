"""Token endpoints of Entra ID and of the AKS token proxy, and the discovery documents."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from keyferry_devvault.clouds import CLOUDS, LoginHost, TokenProxyHost, cloud_of_resource
from keyferry_devvault.entra.assertions import check_assertion
from keyferry_devvault.entra.entra_errors import Aadsts, entra_error
from keyferry_devvault.http_types import HttpError, Request, Response
from keyferry_devvault.model import Identity, IdentityKind, hash_client_secret
from keyferry_devvault.storage.signing_keys import SigningKeyName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry_devvault.entra.access_tokens import AccessTokens
    from keyferry_devvault.storage.data import DevVaultData


class Entra:
    """Serves the login hosts of all clouds and the token proxy."""

    def __init__(self, data: DevVaultData, tokens: AccessTokens) -> None:
        self._data = data
        self._tokens = tokens

    def handle_token_proxy(self, request: Request, host: TokenProxyHost) -> Response:
        """Handle one request to the token proxy of AKS.

        Raises:
            HttpError: the error response.
        """
        if request.server_name != host.server_name:
            note = f"the token proxy is selected by the TLS server name {host.server_name}"
            raise HttpError(Response(401, {"kind": "Status", "code": 401}, note=note))
        match (request.method, request.path.strip("/").split("/")):
            case ("POST", [tenant, "oauth2", "v2.0", "token"]):
                return self._issue_token(request, None, tenant)
            case _:
                raise HttpError(Response(404, note="the token proxy gives tokens only"))

    def handle(self, request: Request, host: LoginHost) -> Response:
        """Handle one request.

        Raises:
            HttpError: the error response.
        """
        match (request.method, request.path.strip("/").split("/")):
            case ("GET", ["common", "discovery", "instance"]):
                return self._instance_discovery(request, host)
            case ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]):
                return self._openid_configuration(request, host, tenant)
            case ("GET", [_, "discovery", "v2.0", "keys"]):
                return Response(200, self._data.signing_keys.public_jwks(SigningKeyName.ENTRA))
            case ("POST", ["adfs" as tenant, "oauth2", "token"]):
                return self._issue_token(request, host, tenant)
            case ("POST", [tenant, "oauth2", "v2.0", "token"]) if tenant != "adfs":
                return self._issue_token(request, host, tenant)
            case _:
                raise HttpError(
                    Response(404, note="the development vault does not emulate this endpoint")
                )

    def _issue_token(self, request: Request, host: LoginHost | None, tenant: str) -> Response:
        """Issue a token. `host` is None for the token proxy, which serves bound identities only."""
        bound = host is None
        form = _parse_form(request)
        self._check_tenant(request, tenant)
        if (grant := form.get("grant_type", "")) != "client_credentials":
            raise entra_error(
                request,
                Aadsts.GRANT,
                f"The grant type '{grant[:40]}' is not supported by the development vault.",
            )
        identity = self._find_client(request, form, tenant)
        resource = _requested_resource(request, form, host)
        if bound or "client_assertion" in form:
            check_assertion(request, form, identity, self._data, via_token_proxy=bound)
        else:
            self._check_client_secret(request, form, identity)
        lifetime = self._data.fault_injection.tuning().token_lifetime
        token = self._tokens.issue(identity, resource, now=request.received_at, lifetime=lifetime)
        body = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }
        return Response(200, body, {"Cache-Control": "no-store"}, principal=identity.client_id)

    def _check_tenant(self, request: Request, tenant: str) -> None:
        if tenant.lower() not in self._data.identities.tenants():
            raise entra_error(
                request,
                Aadsts.TENANT,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID"
                " and are signing into the correct cloud.",
                note="add an app of this tenant: "
                + self._data.hints.line("identity", "add-app", "CLIENT_ID", "--tenant", tenant),
            )

    def _find_client(self, request: Request, form: Mapping[str, str], tenant: str) -> Identity:
        client_id = form.get("client_id", "")
        identity = self._data.identities.find(client_id) if client_id else None
        if (
            identity is None
            or identity.tenant != tenant.lower()
            or identity.kind is IdentityKind.SYSTEM_ASSIGNED
        ):
            raise entra_error(
                request,
                Aadsts.CLIENT,
                f"Application with identifier '{client_id}' was not found in the directory"
                f" '{tenant}'. This can happen if the application has not been installed by the"
                " administrator of the tenant. You may have sent your authentication request to the"
                " wrong tenant.",
                note="add it: "
                + self._data.hints.line("identity", "add-app", client_id, "--tenant", tenant),
            )
        return identity

    def _check_client_secret(
        self, request: Request, form: Mapping[str, str], identity: Identity
    ) -> None:
        if "client_secret" not in form:
            raise entra_error(
                request,
                Aadsts.NO_CREDENTIAL,
                "The request body must contain the following parameter: 'client_assertion' or"
                " 'client_secret'.",
            )
        digest = identity.secret_digest or b""
        if not hmac.compare_digest(digest, hash_client_secret(form["client_secret"])):
            raise entra_error(
                request,
                Aadsts.SECRET,
                "Invalid client secret provided. Ensure the secret being sent in the request is the"
                " client secret value, not the client secret ID, for a secret added to app"
                f" '{identity.client_id}'.",
                note="set another one: "
                + self._data.hints.line("identity", "add-app", identity.client_id),
            )

    def _openid_configuration(self, request: Request, host: LoginHost, tenant: str) -> Response:
        if tenant not in ("common", "organizations"):
            self._check_tenant(request, tenant)
        base = f"https://{host.name}/{tenant}"
        return Response(
            200,
            {
                "issuer": f"{base}/v2.0",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
        )

    @staticmethod
    def _instance_discovery(request: Request, host: LoginHost) -> Response:
        parts = request.query.get("authorization_endpoint", "").split("/")
        tenant = parts[3] if len(parts) > 3 else "common"
        endpoint = f"https://{host.name}/{tenant}/v2.0/.well-known/openid-configuration"
        hosts = host.cloud.login_hosts
        return Response(
            200,
            {
                "tenant_discovery_endpoint": endpoint,
                "api-version": "1.1",
                "metadata": [
                    {
                        "preferred_network": hosts[0],
                        "preferred_cache": hosts[0],
                        "aliases": list(hosts),
                    }
                ],
            },
        )


def _parse_form(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    except ValueError:
        raise entra_error(request, Aadsts.GRANT, "The request body is not a form.") from None


def _requested_resource(request: Request, form: Mapping[str, str], host: LoginHost | None) -> str:
    """Return the resource of the scope of a form."""
    ignored = {"openid", "offline_access", "profile"}
    scopes = [scope for scope in form.get("scope", "").split() if scope not in ignored]
    if len(scopes) != 1 or not scopes[0].endswith("/.default"):
        raise entra_error(
            request,
            Aadsts.SCOPE,
            f"The provided value for scope {' '.join(scopes)[:200]} is not valid. Client credential"
            " flows must have a scope value with /.default suffixed to the resource identifier.",
        )
    resource = scopes[0].removesuffix("/.default")
    cloud = CLOUDS[0] if host is None else host.cloud
    if cloud_of_resource(resource) is not cloud:
        raise entra_error(
            request,
            Aadsts.RESOURCE,
            f"The resource principal named {resource[:200]} was not found in the tenant.",
            note=f"the vaults of this cloud are {cloud.vault_resource}",
        )
    return resource
