"""Plans the diagnosis of a mount from Vault or OpenBao."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import VaultError, excerpt
from keyferry.formats.yaml_text import write_flow
from keyferry.net.retryable import RetryableFailure
from keyferry.providers.sources.diagnosis import (
    DiagnosedEntry,
    DiagnosedSource,
    DiagnosisPlan,
    Endpoint,
    EndpointKind,
    Facts,
)
from keyferry.providers.vault.auth.login import JwtLogin
from keyferry.providers.vault.http.client import VaultRequest
from keyferry.providers.vault.objects import entry_nodes
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.http.client import VaultHttp
    from keyferry.providers.vault.http.server import Server
    from keyferry.providers.vault.objects import VaultObject
    from keyferry.providers.vault.params import MountParams
    from keyferry.providers.vault.product import Product

_SECONDS = 5.0
_HEALTH_PATH = (
    "/v1/sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
    "&drsecondarycode=200&standbycode=200&performancestandbycode=200"
)


class _Health(msgspec.Struct):
    initialized: bool = True
    sealed: bool = False
    standby: bool = False
    version: str = ""


class VaultDiagnosis:
    """Plans diagnoses with the connections of the provider.

    Args:
        http: opens connections.
        product: of the provider.
    """

    def __init__(self, http: VaultHttp, product: Product) -> None:
        self._http = http
        self._product = product

    def plan(self, mount: MountParams, attributes: Mapping[str, str]) -> DiagnosisPlan:
        """Return the parts of a mount.

        Args:
            mount: the parsed parameters.
            attributes: of the mount call.
        """
        entries = zip(mount.objects, entry_nodes(attributes.get("objects", "")), strict=True)
        return DiagnosisPlan(
            tuple(self._source(login) for login in mount.logins),
            tuple(
                DiagnosedEntry(
                    _entry_name(parsed),
                    parsed.source,
                    {**attributes, "objects": f"[{write_flow(node)}]"},
                    () if parsed.is_selector else (parsed.id,),
                )
                for parsed, node in entries
            ),
        )

    def _source(self, login: Login) -> DiagnosedSource:
        server = login.server
        vault = Endpoint(EndpointKind.VAULT, server.host)
        if not server.address.socket:
            vault = Endpoint(
                EndpointKind.VAULT,
                server.host,
                partial(self._http.inspect, server, seconds=_SECONDS),
                partial(self._greet, server),
            )
        facts = {"auth": f"auth/{login.auth_mount}"}
        if server.namespace:
            facts["namespace"] = excerpt(server.namespace)
        if isinstance(login.method, JwtLogin):
            facts["role"] = excerpt(login.method.role)
            facts["audience"] = excerpt(login.method.audience or self._product.audience)
        return DiagnosedSource(vault, None, login.display_name, facts)

    async def _greet(self, server: Server) -> Facts:
        """Read the health of the vault, without a token.

        Raises:
            KeyferryError: the vault does not respond, is sealed or not initialized.
        """
        request = VaultRequest(_HEALTH_PATH, f"reach {server.host}")
        answer = await self._http.send(replace(server, namespace=""), request, _SECONDS)
        if isinstance(answer, RetryableFailure):
            raise answer.error
        try:
            health = msgspec.json.decode(answer.body, type=_Health)
        except msgspec.DecodeError:
            return {}
        if not answer.ok:
            return {}
        if not health.initialized:
            raise VaultError(
                f"{server} is not initialized", f"Run: {server.command} operator init."
            )
        if health.sealed:
            raise VaultError(f"{server} is sealed", f"Unseal it: {server.command} operator unseal.")
        version = {"version": excerpt(health.version)} if health.version else {}
        return version | ({"standby": "yes"} if health.standby else {})


def _entry_name(parsed: VaultObject) -> str:
    where = f" of vault {parsed.vault}" if parsed.vault else ""
    if parsed.is_selector:
        return f"secrets that find selects below {excerpt(str(parsed.request.path))}{where}"
    return f"{parsed}{where}"
