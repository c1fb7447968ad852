"""From what came of a fetch to the content of a volume: all of it, or why not. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.failures import combined
from keyferry.formats.volume_paths import path_conflict
from keyferry.providers.api import MountResult, ObjectVersion, SecretFile
from keyferry.providers.azure.content import render
from keyferry.providers.azure.fetch_plan import FetchOutcome, ObjectRequest, request_for
from keyferry.providers.azure.objects import KeyVaultObject, ObjectRef, fetch_error_prefix
from keyferry.providers.azure.responses import KeyVaultSecret, PublicKey
from keyferry.providers.expiry import Expiry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.providers.azure.options import BundleOptions
    from keyferry.providers.azure.responses import Content


@dataclass(frozen=True, slots=True)
class RenderedVolume:
    """The content of a volume.

    Attributes:
        result: it.
        incomplete_chains: the objects whose certificates do not form one chain.
    """

    result: MountResult
    incomplete_chains: tuple[ObjectRef, ...]


def needs_no_crypto(outcomes: Mapping[ObjectRequest, FetchOutcome]) -> bool:
    """Whether files are made of it without the library for keys and certificates."""
    return not any(
        isinstance(content, PublicKey)
        or (isinstance(content, KeyVaultSecret) and content.backs_certificate)
        for contents in outcomes.values()
        if not isinstance(contents, KeyferryError)
        for content in contents
    )


def render_all(
    objects: Sequence[KeyVaultObject],
    outcomes: Mapping[ObjectRequest, FetchOutcome],
    *,
    default_mode: int,
    options: BundleOptions,
) -> RenderedVolume:
    """The files of all objects, in their order.

    Args:
        objects: as the class lists them.
        outcomes: what came for each.
        default_mode: of files whose entry names none.
        options: how certificates are wanted.

    Raises:
        KeyferryError: the first failure, which names the objects that failed as well.
        ClassInvalidError: separate files meet the path of another object.
    """
    files: list[SecretFile] = []
    versions: list[ObjectVersion] = []
    failures: list[tuple[ObjectRef, KeyferryError]] = []
    broken: list[ObjectRef] = []
    expiries: list[Expiry] = []
    for found in objects:
        contents = outcomes[request_for(found)]
        if isinstance(contents, KeyferryError):
            failures.append((found.ref, contents))
            continue
        chosen = default_mode if found.mode is None else found.mode
        try:
            for content, path, name in zip(contents, found.paths, found.ids, strict=False):
                rendered = render(content, found, options)
                files += (SecretFile(path + end, chosen, data) for end, data in rendered.files)
                versions += [ObjectVersion(name, content.version)] * len(rendered.files)
                broken += () if rendered.complete_chain else (found.ref,)
            # The older versions of a history are expected to end.
            expiries += _expiry_of(found, contents[0])
        except KeyferryError as error:
            failures.append((found.ref, error))
    if failures:
        ref = failures[0][0]
        context = fetch_error_prefix(ref.type.value, ref.name, ref.version)
        raise combined([(str(failed), error) for failed, error in failures], context)
    _check_path_clash(files)
    result = MountResult(tuple(versions), tuple(files), tuple(dict.fromkeys(expiries)))
    return RenderedVolume(result, tuple(dict.fromkeys(broken)))


def _expiry_of(vault_object: KeyVaultObject, newest: Content) -> tuple[Expiry, ...]:
    """When an object ends, if its class wants to know and it does end."""
    at = newest.properties.expires_at
    if at is None or not vault_object.expiry_warning:
        return ()
    return (Expiry(str(vault_object.ref), at, vault_object.expiry_warning),)


def _check_path_clash(files: Sequence[SecretFile]) -> None:
    """Only separate files can meet: which secrets have them is known only now."""
    clash = path_conflict(file.path for file in files)
    if clash is not None:
        raise ClassInvalidError(
            f"two files have the path '{clash[1]}', one of them the certificate or key of a secret",
            "Give one of the objects another objectAlias.",
        )
