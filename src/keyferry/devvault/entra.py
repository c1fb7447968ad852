"""Entra ID: client credentials with their real checks, and what clients discover before."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from keyferry.devvault.clouds import LoginStation, cloud_of_resource
from keyferry.devvault.entra_errors import Aadsts, entra_error
from keyferry.devvault.exchange import Answer, Call, Refused
from keyferry.devvault.jwt import Claims, JwtError, parse_jwt, verify_jwt
from keyferry.devvault.model import Federation, Identity, IdentityKind, digest_of
from keyferry.devvault.signing_keys import SigningKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.devvault.access_tokens import AccessTokens
    from keyferry.devvault.data import DevVaultData

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CLOCK_SKEW = 300.0
"""Seconds that the clock of an issuer may be ahead."""


class Entra:
    """Answers for the login hosts of every cloud."""

    def __init__(self, data: DevVaultData, tokens: AccessTokens) -> None:
        self._data = data
        self._tokens = tokens

    def answer(self, call: Call, station: LoginStation) -> Answer:
        """Handle one request.

        Raises:
            Refused: with the answer that says why.
        """
        match (call.method, call.path.strip("/").split("/")):
            case ("GET", ["common", "discovery", "instance"]):
                return self._instances(call, station)
            case ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]):
                return self._configuration(call, station, tenant)
            case ("GET", [_, "discovery", "v2.0", "keys"]):
                return Answer(200, self._data.keys.published(SigningKey.ENTRA))
            case ("POST", [tenant, "oauth2", "v2.0", "token"]):
                return self._token(call, station, tenant)
            case _:
                raise Refused(Answer(404, note="the development vault does not play this endpoint"))

    def _token(self, call: Call, station: LoginStation, tenant: str) -> Answer:
        form = _form(call)
        self._check_tenant(call, tenant)
        if (grant := form.get("grant_type", "")) != "client_credentials":
            raise entra_error(
                call, Aadsts.GRANT, f"The grant type '{grant[:40]}' is not played here."
            )
        identity = self._client(call, form, tenant)
        resource = _resource(call, form, station)
        if "client_assertion" in form:
            self._check_assertion(call, form, identity)
        else:
            _check_secret(call, form, identity)
        lifetime = self._data.behaviour.tuning().token_lifetime
        token = self._tokens.issue(identity, resource, now=call.now, lifetime=lifetime)
        body = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }
        return Answer(200, body, {"Cache-Control": "no-store"}, principal=identity.client_id)

    def _check_tenant(self, call: Call, tenant: str) -> None:
        if tenant.lower() not in self._data.identities.tenants():
            raise entra_error(
                call,
                Aadsts.TENANT,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID"
                " and are signing into the correct cloud.",
                note="an app brings its tenant: keyferry devvault identity add-app --tenant TENANT",
            )

    def _client(self, call: Call, form: Mapping[str, str], tenant: str) -> Identity:
        client_id = form.get("client_id", "")
        identity = self._data.identities.find(client_id) if client_id else None
        if (
            identity is None
            or identity.tenant != tenant.lower()
            or identity.kind is IdentityKind.SYSTEM_ASSIGNED
        ):
            raise entra_error(
                call,
                Aadsts.CLIENT,
                f"Application with identifier '{client_id}' was not found in the directory"
                f" '{tenant}'. This can happen if the application has not been installed by the"
                " administrator of the tenant. You may have sent your authentication request to the"
                " wrong tenant.",
                note="add it: keyferry devvault identity add-app CLIENT_ID --tenant TENANT",
            )
        return identity

    def _check_assertion(self, call: Call, form: Mapping[str, str], identity: Identity) -> None:
        """Check a federated token: issuer, audience, subject, then signature and time."""
        try:
            jwt = parse_jwt(form["client_assertion"])
        except JwtError:
            raise entra_error(
                call, Aadsts.MALFORMED, "JWT token is invalid or malformed."
            ) from None
        if form.get("client_assertion_type") != JWT_BEARER:
            raise entra_error(
                call, Aadsts.GRANT, f"The client assertion type must be '{JWT_BEARER}'."
            )
        _match_federation(call, self._data.identities.federations(identity.client_id), jwt.claims)
        keys = self._data.identities.issuer_keys(jwt.claims.iss)
        if keys is None:
            raise entra_error(
                call,
                Aadsts.ISSUER_KEYS,
                f"Unable to retrieve the keys of the issuer '{jwt.claims.iss}'.",
                note="register them: keyferry devvault issuer add URL --jwks FILE",
            )
        try:
            verify_jwt(jwt, keys)
        except JwtError:
            raise entra_error(
                call,
                Aadsts.MALFORMED,
                "JWT token is invalid or malformed: signature validation failed.",
            ) from None
        if call.now >= jwt.claims.exp or call.now + _CLOCK_SKEW < jwt.claims.nbf:
            raise entra_error(
                call,
                Aadsts.EXPIRED,
                "Client assertion is not within its valid time range."
                f" Current time: {int(call.now)}, expiry: {int(jwt.claims.exp)}.",
            )

    def _configuration(self, call: Call, station: LoginStation, tenant: str) -> Answer:
        if tenant not in ("common", "organizations"):
            self._check_tenant(call, tenant)
        base = f"https://{station.host}/{tenant}"
        return Answer(
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
    def _instances(call: Call, station: LoginStation) -> Answer:
        wanted = call.query.get("authorization_endpoint", "").split("/")
        tenant = wanted[3] if len(wanted) > 3 else "common"
        endpoint = f"https://{station.host}/{tenant}/v2.0/.well-known/openid-configuration"
        hosts = station.cloud.login_hosts
        return Answer(
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


def _form(call: Call) -> dict[str, str]:
    try:
        return dict(parse_qsl(call.body.decode(), keep_blank_values=True))
    except ValueError:
        raise entra_error(call, Aadsts.GRANT, "The request body is not a form.") from None


def _resource(call: Call, form: Mapping[str, str], station: LoginStation) -> str:
    """The resource that the one scope of the form asks for."""
    ignored = {"openid", "offline_access", "profile"}
    scopes = [scope for scope in form.get("scope", "").split() if scope not in ignored]
    if len(scopes) != 1 or not scopes[0].endswith("/.default"):
        raise entra_error(
            call,
            Aadsts.SCOPE,
            f"The provided value for scope {' '.join(scopes)[:200]} is not valid. Client credential"
            " flows must have a scope value with /.default suffixed to the resource identifier.",
        )
    resource = scopes[0].removesuffix("/.default")
    if cloud_of_resource(resource) is not station.cloud:
        raise entra_error(
            call,
            Aadsts.RESOURCE,
            f"The resource principal named {resource[:200]} was not found in the tenant.",
            note=f"the vaults of this cloud are {station.cloud.vault_resource}",
        )
    return resource


def _check_secret(call: Call, form: Mapping[str, str], identity: Identity) -> None:
    if "client_secret" not in form:
        raise entra_error(
            call,
            Aadsts.NO_CREDENTIAL,
            "The request body must contain the following parameter: 'client_assertion' or"
            " 'client_secret'.",
        )
    kept = identity.secret_digest or b""
    if not hmac.compare_digest(kept, digest_of(form["client_secret"])):
        raise entra_error(
            call,
            Aadsts.SECRET,
            "Invalid client secret provided. Ensure the secret being sent in the request is the"
            " client secret value, not the client secret ID, for a secret added to app"
            f" '{identity.client_id}'.",
        )


def _match_federation(call: Call, rows: tuple[Federation, ...], claims: Claims) -> None:
    """Find a credential for the claims; the refusal tells how far the best one matched."""
    rows = tuple(row for row in rows if row.issuer == claims.iss)
    if not rows:
        raise _no_federation(call, Aadsts.FEDERATION_ISSUER, f"issuer '{claims.iss}'")
    rows = tuple(row for row in rows if row.audience in claims.audiences())
    if not rows:
        audiences = ", ".join(claims.audiences())
        raise _no_federation(call, Aadsts.FEDERATION_AUDIENCE, f"audience '{audiences}'")
    if not any(row.subject == claims.sub for row in rows):
        raise _no_federation(call, Aadsts.FEDERATION_SUBJECT, f"subject '{claims.sub}'")


def _no_federation(call: Call, code: Aadsts, what: str) -> Refused:
    return entra_error(
        call,
        code,
        f"No matching federated identity record found for presented assertion {what}. Check your"
        " federated identity credential Subject, Audience and Issuer against the presented"
        " assertion.",
        note="add one: keyferry devvault identity federate CLIENT_ID --subject SUBJECT",
    )
