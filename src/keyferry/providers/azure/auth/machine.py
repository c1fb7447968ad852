"""Tokens from services of the machine itself: IMDS, and NMI of AAD Pod Identity.

Source: azure, sections 2.3 and 2.4. Whose token it is, both know by themselves or by an id; no
credential is sent. The environment of this process, which other clients let redirect them, does
not count here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from keyferry.providers.azure.auth.access_token import AccessToken, parse_nmi_token, parse_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.providers.azure.auth.identity import PodIdentity, VmManagedIdentity
    from keyferry.providers.azure.auth.service_account import ServiceAccountToken
    from keyferry.providers.azure.auth.token_http import TokenHttpClient

IMDS_URL = "http://169.254.169.254/metadata/identity/oauth2/token"
NMI_URL = "http://localhost:2579/host/token/"


class ImdsSource:
    """The tokens of a managed identity of an Azure VM.

    Args:
        http: makes the requests.
        identity: which one; without an id the system-assigned one.
        resource: what the tokens are for.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        http: TokenHttpClient,
        identity: VmManagedIdentity,
        *,
        resource: str,
        clock: Callable[[], float],
    ) -> None:
        self._http = http
        self._clock = clock
        self._url = URL(IMDS_URL).with_query(
            {"api-version": "2018-02-01", "resource": resource} | _identity_query(identity)
        )

    async def request_token(
        self, _federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Ask once; see `TokenSource`."""
        answer = await self._http.get(self._url, {"Metadata": "true"}, seconds)
        return parse_token(answer, now=self._clock())


def _identity_query(identity: VmManagedIdentity) -> dict[str, str]:
    ids = {
        "client_id": identity.client_id,
        "object_id": identity.object_id,
        "msi_res_id": identity.resource_id,
    }
    return {parameter: value for parameter, value in ids.items() if value}


class NmiSource:
    """The tokens of the identity that AAD Pod Identity assigned to a pod.

    Args:
        http: makes the requests.
        identity: the pod.
        resource: what the tokens are for.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        http: TokenHttpClient,
        identity: PodIdentity,
        *,
        resource: str,
        clock: Callable[[], float],
    ) -> None:
        self._http = http
        self._clock = clock
        self._headers = {"podname": identity.pod, "podns": identity.namespace}
        # NMI expects the resource as it is, not percent-encoded.
        self._url = URL(f"{NMI_URL}?resource={resource}", encoded=True)

    async def request_token(
        self, _federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Ask once; see `TokenSource`."""
        answer = await self._http.get(self._url, self._headers, seconds)
        return parse_nmi_token(answer, now=self._clock())
