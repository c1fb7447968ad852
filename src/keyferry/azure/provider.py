"""One mount from Azure Key Vault: parse, get a token, fetch, render. All of it or nothing."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry import __version__
from keyferry.azure.cloud_file import read_environment
from keyferry.azure.clouds import Cloud, EnvironmentFile
from keyferry.azure.identity import Credentials, Login
from keyferry.azure.keyvault import KeyVault, Secret
from keyferry.azure.objects import ObjectRef, ObjectType, VaultObject, fetch_context
from keyferry.azure.params import AzureMount, parse_mount
from keyferry.azure.render import render
from keyferry.azure.vault_refusals import Asked
from keyferry.contract import API_VERSION, MountResult, ObjectVersion, ProviderVersion, SecretFile
from keyferry.errors import InternalError, KeyferryError
from keyferry.https import HttpsClient
from keyferry.provider_settings import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.contract import MountCall, Provider
    from keyferry.https import HttpsSettings

AT_ONCE = 64
"""So many objects are fetched at the same time by all mounts together."""
_NAMED_FAILURES = 10
"""So many further failures a message names before it only counts."""

E = TypeVar("E", bound=KeyferryError)


def build_provider(https: HttpsSettings, settings: ProviderSettings) -> Provider:
    """The provider for `spec.provider: azure`."""
    return AzureProvider(HttpsClient(https), settings)


class AzureProvider:
    """Delivers secrets from Azure Key Vault.

    Args:
        https: its connections; closed with it.
        settings: what it was told.
        at_once: how many objects may be fetched at the same time.
    """

    def __init__(
        self,
        https: HttpsClient,
        settings: ProviderSettings | None = None,
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self._https = https
        self._settings = settings or ProviderSettings()
        self._credentials = Credentials(https)
        self._turns = asyncio.Semaphore(at_once)

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch everything that `call` asks for, or raise a `KeyferryError`."""
        try:
            return await self._mount(call)
        except KeyferryError as error:
            raise _within("failed to mount objects, error", error) from error.__cause__

    async def version(self) -> ProviderVersion:
        """Tell the protocol and the product version."""
        name = "secrets-store-csi-driver-provider-azure"
        return ProviderVersion(API_VERSION, name, __version__)

    async def close(self) -> None:
        """Release the connections."""
        await self._credentials.close()
        await self._https.close()

    async def _mount(self, call: MountCall) -> MountResult:
        mount = parse_mount(call.attributes, call.secrets)
        cloud = await _cloud(mount.cloud)
        vault = await self._open(mount, cloud)
        contents = await self._fetch(vault, dict.fromkeys(found.ref for found in mount.objects))
        return _result(mount.objects, contents, mode=call.permission)

    async def _open(self, mount: AzureMount, cloud: Cloud) -> KeyVault:
        """The vault, once there is a token for it."""
        tokens = self._credentials.tokens(Login(mount.identity, mount.tenant, cloud))
        await tokens.token()
        return KeyVault(
            self._https,
            tokens,
            asked=Asked(mount.vault, mount.tenant, cloud.authority, mount.identity),
            host=cloud.vault_host(mount.vault),
        )

    async def _fetch(
        self, vault: KeyVault, refs: Iterable[ObjectRef]
    ) -> Mapping[ObjectRef, Secret | KeyferryError]:
        """Every object, or why there is none, all at once."""

        async def one(ref: ObjectRef) -> tuple[ObjectRef, Secret | KeyferryError]:
            async with self._turns:
                try:
                    return ref, await _read(vault, ref)
                except KeyferryError as error:
                    return ref, error

        return dict(await asyncio.gather(*(one(ref) for ref in refs)))


async def _cloud(found: Cloud | EnvironmentFile) -> Cloud:
    match found:
        case Cloud():
            return found
        case EnvironmentFile():
            return await asyncio.to_thread(read_environment, found)
        case _:
            assert_never(found)


async def _read(vault: KeyVault, ref: ObjectRef) -> Secret:
    match ref.type:
        case ObjectType.SECRET:
            return await vault.secret(ref)
        case ObjectType.KEY | ObjectType.CERT:
            raise InternalError(f"{ref} passed the check of its type")
        case _:
            assert_never(ref.type)


def _result(
    objects: tuple[VaultObject, ...],
    contents: Mapping[ObjectRef, Secret | KeyferryError],
    *,
    mode: int,
) -> MountResult:
    """The files of all objects, in their order; the first failure if there is one."""
    files: list[SecretFile] = []
    versions: list[ObjectVersion] = []
    failures: list[tuple[ObjectRef, KeyferryError]] = []
    for found in objects:
        try:
            content = contents[found.ref]
            if isinstance(content, KeyferryError):
                raise content
            rendered = render(content.value, found.encoding)
        except KeyferryError as error:
            failures.append((found.ref, error))
            continue
        chosen = mode if found.mode is None else found.mode
        files.append(SecretFile(found.path, chosen, rendered))
        versions.append(ObjectVersion(found.ref.id, content.version))
    if failures:
        raise _first_of(failures)
    return MountResult(tuple(versions), tuple(files))


def _first_of(failures: list[tuple[ObjectRef, KeyferryError]]) -> KeyferryError:
    """The first failure, with the names of the others."""
    (ref, first), others = failures[0], failures[1:]
    error = _within(fetch_context(ref.type.value, ref.name, ref.version), first)
    names = list(dict.fromkeys(str(other) for other, _ in others if other != ref))
    if names:
        more = len(names) - _NAMED_FAILURES
        tail = f" and {more} more" if more > 0 else ""
        error.problem += f"; also failed: {', '.join(names[:_NAMED_FAILURES])}{tail}"
    error.__cause__ = first.__cause__
    return error


def _within(context: str, error: E) -> E:
    """A copy of `error` that begins with `context`; mounts may share the error itself."""
    copied = copy(error)
    copied.problem = f"{context}: {error.problem}"
    return copied
