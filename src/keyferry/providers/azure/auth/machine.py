"""Tokens from services of the machine itself: IMDS, and NMI of AAD Pod Identity.

Whose token it is, both know by themselves or by an id; no credential is sent. The environment of
this process, which other clients let redirect them, does not count here.

Source: docs/reference/upstream-azure-provider.md#pod-identity
Source: docs/reference/upstream-azure-provider.md#managed-identity
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yarl import URL

from keyferry.errors import IdentityError
from keyferry.formats.private_files import read_regular_file
from keyferry.providers.azure.auth.access_token import (
    AccessToken,
    TokenRefusedError,
    TokenResponse,
    parse_nmi_token,
    parse_token,
)

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.providers.azure.auth.identity import (
        PodIdentity,
        ServiceAccountToken,
        VmManagedIdentity,
    )
    from keyferry.providers.azure.auth.token_http import TokenHttpClient

IMDS_URL = "http://169.254.169.254/metadata/identity/oauth2/token"
NMI_URL = "http://localhost:2579/host/token/"


class ImdsSource:
    """The tokens of a managed identity of an Azure VM.

    Args:
        http: makes the requests.
        identity: which one; without an id the system-assigned one.
        resource: what the tokens are for.
        clock: reads the time.
    """

    def __init__(
        self,
        http: TokenHttpClient,
        identity: VmManagedIdentity,
        *,
        resource: str,
        clock: Clock,
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
        return parse_token(answer, now=self._clock.wall().timestamp())


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
        clock: reads the time.
    """

    def __init__(
        self,
        http: TokenHttpClient,
        identity: PodIdentity,
        *,
        resource: str,
        clock: Clock,
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
        return parse_nmi_token(answer, now=self._clock.wall().timestamp())


# --- Tokens from the agent of Azure Arc: the answer to its challenge is a file of this machine ----

ARC_URL = "http://127.0.0.1:40342/metadata/identity/oauth2/token"
_MAX_KEY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ArcAgent:
    """Where the agent of Azure Arc is on this machine."""

    program: Path | None = Path("/opt/azcmagent/bin/himds")
    """Where it exists, a managed identity of the machine is that of Arc; None: do not look."""
    key_directory: Path = Path("/var/opt/azcmagent/tokens")
    """The folder of its challenge files."""

    @property
    def is_installed(self) -> bool:
        """Whether this machine is connected to Azure Arc."""
        return self.program is not None and self.program.exists()


class ArcSource:
    """The tokens of the system-assigned identity of an Arc machine.

    Args:
        http: makes the requests.
        agent: where its files are.
        resource: what the tokens are for.
        clock: reads the time.
    """

    def __init__(
        self, http: TokenHttpClient, agent: ArcAgent, *, resource: str, clock: Clock
    ) -> None:
        self._http = http
        self._agent = agent
        self._clock = clock
        self._url = URL(ARC_URL).with_query({"api-version": "2020-06-01", "resource": resource})

    async def request_token(
        self, _federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Ask twice: for the challenge, then with its answer; see `TokenSource`."""
        headers = {"Metadata": "true"}
        challenge = await self._http.get(self._url, headers, seconds)
        if challenge.status != 401:
            return parse_token(challenge, now=self._clock.wall().timestamp())
        key = await asyncio.to_thread(
            read_challenge_key, challenge_key_path(challenge), self._agent.key_directory
        )
        headers["Authorization"] = f"Basic {key}"
        answer = await self._http.get(self._url, headers, seconds)
        return parse_token(answer, now=self._clock.wall().timestamp())


def challenge_key_path(challenge: TokenResponse) -> str:
    """The file that a 401 of the agent names.

    Raises:
        TokenRefusedError: it names none.
    """
    header = challenge.headers.get("WWW-Authenticate", "")
    found = re.fullmatch(r'Basic realm="?([^"]{1,1000}\.key)"?', header.strip())
    if found is None:
        raise TokenRefusedError(challenge)
    return found[1]


def read_challenge_key(path: str, directory: Path) -> str:
    """The content of the challenge file `path`.

    Raises:
        IdentityError: it does not lie in `directory`, is no small regular file, or cannot be read.
    """
    if Path(path).parent != directory or ".." in path:
        raise IdentityError(
            f"the Azure Arc agent names a file outside of {directory}",
            "Only the agent may answer on 127.0.0.1:40342; look at what listens there.",
        )
    try:
        return read_regular_file(path, max_bytes=_MAX_KEY_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise IdentityError(
            f"the challenge file of the Azure Arc agent in {directory} cannot be read: {reason}",
            "Add the user of this process to the group himds; in a container mount "
            f"{directory} from the machine.",
        ) from None
