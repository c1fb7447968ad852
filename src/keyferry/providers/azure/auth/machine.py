"""Requests tokens from services of the machine: IMDS, NMI (AAD Pod Identity), the Azure Arc agent.

These services identify the caller themselves; no credential is sent. Environment variables, with
which other clients can be redirected, are ignored.

Source: docs/reference/upstream-azure-provider.md#pod-identity
Source: docs/reference/upstream-azure-provider.md#managed-identity
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from yarl import URL

from keyferry.errors import IdentityError, PlatformError, Stage
from keyferry.formats.private_files import read_regular_file
from keyferry.providers.azure.auth.access_token import (
    AccessToken,
    TokenRefusedError,
    TokenResponse,
    parse_nmi_token,
    parse_token,
)
from keyferry.providers.privileges import NoPrivileges

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.providers.azure.auth.identity import (
        PodIdentity,
        ServiceAccountToken,
        VmManagedIdentity,
    )
    from keyferry.providers.azure.auth.token_http import TokenHttpClient
    from keyferry.providers.emulator import Emulator
    from keyferry.providers.privileges import Privileges

IMDS_URL = "http://169.254.169.254/metadata/identity/oauth2/token"
NMI_URL = "http://localhost:2579/host/token/"


class ImdsSource:
    """Requests the tokens of a managed identity of an Azure VM from IMDS.

    Args:
        http: sends the requests.
        identity: the identity; without an ID the system-assigned one.
        resource: the resource that the tokens are for.
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
        """Implement `TokenSource`."""
        response = await self._http.get(self._url, {"Metadata": "true"}, seconds)
        return parse_token(response, now=self._clock.wall().timestamp())


def _identity_query(identity: VmManagedIdentity) -> dict[str, str]:
    ids = {
        "client_id": identity.client_id,
        "object_id": identity.object_id,
        "msi_res_id": identity.resource_id,
    }
    return {parameter: value for parameter, value in ids.items() if value}


class NmiSource:
    """Requests the tokens of the identity that AAD Pod Identity assigned to a pod from NMI.

    Args:
        http: sends the requests.
        identity: the pod.
        resource: the resource that the tokens are for.
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
        # NMI does not decode a percent-encoded resource.
        self._url = URL(f"{NMI_URL}?resource={resource}", encoded=True)

    async def request_token(
        self, _federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Implement `TokenSource`."""
        response = await self._http.get(self._url, self._headers, seconds)
        return parse_nmi_token(response, now=self._clock.wall().timestamp())


# --- Azure Arc: its agent challenges the caller to read a protected file of the machine -----------

ARC_URL = "http://127.0.0.1:40342/metadata/identity/oauth2/token"
ARC_KEY_DIRECTORY = Path("/var/opt/azcmagent/tokens")
"""The folder of the agent's challenge files."""
CLUSTER_CA = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
"""The CA of the Kubernetes API, in a pod."""
_MAX_KEY_BYTES = 4096
_MAX_CA_BYTES = 1 << 20


class ArcAgent(Struct, frozen=True):
    """The location of the Azure Arc agent on this machine.

    Attributes:
        privileges: reads the challenge files of the agent.
        program: the agent's executable. If it exists, the managed identity of the machine is its
            Arc identity. None: assume that it does not exist.
    """

    privileges: Privileges
    program: Path | None = Path("/opt/azcmagent/bin/himds")

    @property
    def is_installed(self) -> bool:
        """Whether this machine is connected to Azure Arc."""
        return self.program is not None and self.program.exists()


class ArcSource:
    """Requests the tokens of the system-assigned identity of an Arc machine from its agent.

    Args:
        http: sends the requests.
        agent: the location of the agent's files.
        resource: the resource that the tokens are for.
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
        """Implement `TokenSource`: request the challenge, then the token with its solution."""
        headers = {"Metadata": "true"}
        challenge = await self._http.get(self._url, headers, seconds)
        if challenge.status != 401:
            return parse_token(challenge, now=self._clock.wall().timestamp())
        key = await self._agent.privileges.read_challenge_key(challenge_key_path(challenge))
        headers["Authorization"] = f"Basic {key}"
        response = await self._http.get(self._url, headers, seconds)
        return parse_token(response, now=self._clock.wall().timestamp())


class AzurePrivileges(NoPrivileges):
    """Implements `Privileges` with files of this machine.

    Args:
        key_directory: the folder of the challenge files of the Azure Arc agent.
        ca_file: the CA of the Kubernetes API; it need not exist.
    """

    def __init__(self, key_directory: Path = ARC_KEY_DIRECTORY, ca_file: Path = CLUSTER_CA) -> None:
        self._key_directory = key_directory
        self._ca_file = ca_file

    @classmethod
    def of(cls, emulator: Emulator | None) -> AzurePrivileges:
        """Return the privileges for the files of this machine, or for those of the emulator."""
        return cls(emulator.arc_key_folder, emulator.ca_file) if emulator else cls()

    async def read_challenge_key(self, path: str) -> str:
        """Return the challenge key in the file `path`; see `Privileges`."""
        return await asyncio.to_thread(read_challenge_key, path, self._key_directory)

    async def load_cluster_ca(self) -> bytes:
        """Return the CA of the Kubernetes API; see `Privileges`."""
        try:
            return await asyncio.to_thread(
                read_regular_file, self._ca_file, max_bytes=_MAX_CA_BYTES, follow_links=True
            )
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise PlatformError(
                f"the CA in {self._ca_file} cannot be read: {error.strerror}",
                "Set automountServiceAccountToken: true in the pod of Keyferry.",
                stage=Stage.IDENTITY,
            ) from error


def challenge_key_path(challenge: TokenResponse) -> str:
    """Return the path of the file that a 401 of the agent names.

    Raises:
        TokenRefusedError: the response names no file.
    """
    header = challenge.headers.get("WWW-Authenticate", "")
    match = re.fullmatch(r'Basic realm="?([^"]{1,1000}\.key)"?', header.strip())
    if match is None:
        raise TokenRefusedError(challenge)
    return match[1]


def read_challenge_key(path: str, directory: Path) -> str:
    """Return the content of the challenge file `path`.

    Raises:
        IdentityError: the file is not in `directory`, is not a small regular file, or cannot be
            read.
    """
    if Path(path).parent != directory or ".." in path:
        raise IdentityError(
            f"the Azure Arc agent names a challenge file outside of {directory}",
            "Check which program listens on 127.0.0.1:40342; only the agent may.",
        )
    try:
        return read_regular_file(path, max_bytes=_MAX_KEY_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise IdentityError(
            f"the challenge file of the Azure Arc agent in {directory} cannot be read: {reason}",
            "Add the user of this process to the group himds; in a container, mount "
            f"{directory} from the host.",
        ) from None
