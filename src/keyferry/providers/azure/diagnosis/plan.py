"""Plans the diagnosis of a mount from Azure Key Vault."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from yarl import URL

from keyferry.errors import excerpt
from keyferry.formats.yaml_text import ScalarStyle, write_flow
from keyferry.net.http_client import JsonRequest
from keyferry.net.http_responses import ErrorResponse
from keyferry.net.retryable import RetryableFailure
from keyferry.providers.azure.auth.challenge import parse_challenge
from keyferry.providers.azure.auth.identity import (
    EXCHANGE_AUDIENCE,
    TokenService,
    WorkloadIdentity,
    profile,
)
from keyferry.providers.azure.keyvault import API_VERSION
from keyferry.providers.azure.objects import objects_text
from keyferry.providers.azure.objects_yaml import read_entries
from keyferry.providers.sources.diagnosis import (
    DiagnosedEntry,
    DiagnosedSource,
    DiagnosisPlan,
    Endpoint,
    EndpointKind,
    Facts,
)
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.net.http_client import HttpsClient
    from keyferry.net.inspection.observed import Inspection
    from keyferry.providers.azure.auth.identity import Identity
    from keyferry.providers.azure.auth.token_cache import TokenCache
    from keyferry.providers.azure.clouds import AzureCloud
    from keyferry.providers.azure.objects import KeyVaultObject
    from keyferry.providers.azure.objects_yaml import Entry
    from keyferry.providers.azure.params import AzureMount, AzureSource

_GREETING_SECONDS = 5.0


class AzureDiagnosis:
    """Plans diagnoses with the connections of the provider.

    Args:
        https: opens connections.
        tokens: knows the token endpoints.
        emulated: whether `https` connects to the emulator, whatever the host.
    """

    def __init__(self, https: HttpsClient, tokens: TokenCache, *, emulated: bool) -> None:
        self._https = https
        self._tokens = tokens
        self._emulated = emulated

    def plan(
        self, mount: AzureMount, cloud: AzureCloud, attributes: Mapping[str, str]
    ) -> DiagnosisPlan:
        """Return the parts of a mount.

        Args:
            mount: the parsed parameters.
            cloud: the cloud that they name.
            attributes: of the mount call.

        Raises:
            IdentityError: the identity cannot be used on this machine.
        """
        sources = tuple(self._source(source, cloud) for source in mount.sources)
        entries = zip(mount.objects, read_entries(objects_text(attributes)), strict=True)
        return DiagnosisPlan(
            sources,
            tuple(
                DiagnosedEntry(
                    _entry_name(parsed),
                    parsed.source,
                    {**attributes, "objects": _only(entry)},
                    () if parsed.is_selector else parsed.ids,
                )
                for parsed, entry in entries
            ),
        )

    def _source(self, source: AzureSource, cloud: AzureCloud) -> DiagnosedSource:
        netloc = source.vault.netloc_in(cloud)
        url = URL(f"https://{netloc}")
        vault = Endpoint(
            EndpointKind.VAULT,
            url.host or netloc,
            partial(self._inspect, url, url.host or netloc, guarded=True),
            partial(self._greet, url),
        )
        about = profile(source.identity)
        facts = {
            "mode": about.mode.value,
            "tenant": excerpt(source.tenant),
            "resource": cloud.token_resource(url.host or netloc),
        }
        token = self._token_endpoint(source.identity, cloud)
        fix = "" if self._emulated else _federation(source.identity)
        return DiagnosedSource(vault, token, about.name, facts, fix)

    def _token_endpoint(self, identity: Identity, cloud: AzureCloud) -> Endpoint:
        service, host = self._tokens.token_service(identity, cloud)
        match service:
            case TokenService.TOKEN_PROXY:  # verified by a CA of its own, which a request loads
                return Endpoint(EndpointKind.TOKEN, host)
            case TokenService.ENTRA:
                url = URL(cloud.authority)
                inspect = partial(self._inspect, url, host, guarded=cloud.from_class)
            case _:
                inspect = partial(self._inspect, URL(f"http://{host}"), host, proxied=False)
        return Endpoint(EndpointKind.TOKEN, host, inspect)

    async def _inspect(
        self, url: URL, name: str, *, guarded: bool = False, proxied: bool = True
    ) -> Inspection:
        return await self._https.pool.inspect(
            url, name=name, guarded=guarded, proxied=proxied, resolves=not self._emulated
        )

    async def _greet(self, vault: URL) -> Facts:
        """Ask without a token. A vault refuses, and names the tenant that it trusts.

        Raises:
            KeyferryError: the vault does not serve requests.
        """
        url = vault.with_path("/secrets").with_query({"api-version": API_VERSION})
        request = JsonRequest(url, {}, dict, f"reach {vault.host}")
        answer = await self._https.get_json(request, _GREETING_SECONDS)
        if isinstance(answer, RetryableFailure):
            raise answer.error
        if not isinstance(answer, ErrorResponse) or answer.status != 401:
            return {}
        challenge = parse_challenge(answer.challenge)
        return {"trusted tenant": challenge.tenant} if challenge.tenant else {}


def _only(entry: Entry) -> str:
    """Return the parameter `objects` with one entry."""
    return f"array: [{write_flow(replace(entry.item, style=ScalarStyle.QUOTED))}]"


def _entry_name(parsed: KeyVaultObject) -> str:
    if not parsed.is_selector:
        return str(parsed)
    where = f" of vault {parsed.vault}" if parsed.vault else ""
    return f"{parsed.ref.type.value}s that find selects{where}"


def _federation(identity: Identity) -> str:
    """Return the command that makes the identity trust the service account; "" for others."""
    if not isinstance(identity, WorkloadIdentity):
        return ""
    token = identity.service_account_token
    if not (token.issuer and token.subject):
        return ""
    return (
        "az identity federated-credential create --name keyferry --identity-name IDENTITY"
        f" --resource-group GROUP --issuer {excerpt(token.issuer)}"
        f" --subject {excerpt(token.subject)} --audiences {EXCHANGE_AUDIENCE}"
    )
