"""From what came of a fetch to the content of a volume: all of it, or why not. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.azure.contents import PublicKey, Secret
from keyferry.azure.fetch_plan import Ask, Fetched, ask_of
from keyferry.azure.objects import ObjectRef, VaultObject, fetch_context
from keyferry.azure.render import render
from keyferry.contract import MountResult, ObjectVersion, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.expiry import Expiry
from keyferry.failures import first_of
from keyferry.paths import path_clash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.azure.contents import Content
    from keyferry.azure.options import BundleOptions


@dataclass(frozen=True, slots=True)
class Delivery:
    """The content of a volume.

    Attributes:
        result: it.
        broken_chains: the objects whose certificates do not form one chain.
    """

    result: MountResult
    broken_chains: tuple[ObjectRef, ...]


def is_quick(fetched: Mapping[Ask, Fetched]) -> bool:
    """Whether files are made of it without the library for keys and certificates."""
    return not any(
        isinstance(content, PublicKey) or (isinstance(content, Secret) and content.of_certificate)
        for contents in fetched.values()
        if not isinstance(contents, KeyferryError)
        for content in contents
    )


def deliver(
    objects: Sequence[VaultObject],
    fetched: Mapping[Ask, Fetched],
    *,
    mode: int,
    options: BundleOptions,
) -> Delivery:
    """The files of all objects, in their order.

    Args:
        objects: as the class lists them.
        fetched: what came for each.
        mode: of files whose entry names none.
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
        contents = fetched[ask_of(found)]
        if isinstance(contents, KeyferryError):
            failures.append((found.ref, contents))
            continue
        chosen = mode if found.mode is None else found.mode
        try:
            for content, path, name in zip(contents, found.paths, found.ids, strict=False):
                rendered = render(content, found, options)
                files += (SecretFile(path + end, chosen, data) for end, data in rendered.files)
                versions += [ObjectVersion(name, content.version)] * len(rendered.files)
                broken += () if rendered.whole_chain else (found.ref,)
            # The older versions of a history are expected to end.
            expiries += _expiry(found, contents[0])
        except KeyferryError as error:
            failures.append((found.ref, error))
    if failures:
        ref = failures[0][0]
        context = fetch_context(ref.type.value, ref.name, ref.version)
        raise first_of([(str(failed), error) for failed, error in failures], context)
    _check_clash(files)
    result = MountResult(tuple(versions), tuple(files), tuple(dict.fromkeys(expiries)))
    return Delivery(result, tuple(dict.fromkeys(broken)))


def _expiry(found: VaultObject, newest: Content) -> tuple[Expiry, ...]:
    """When an object ends, if its class wants to know and it does end."""
    at = newest.properties.expires
    if at is None or not found.expiry_warning:
        return ()
    return (Expiry(str(found.ref), at, found.expiry_warning),)


def _check_clash(files: Sequence[SecretFile]) -> None:
    """Only separate files can meet: which secrets have them is known only now."""
    clash = path_clash(file.path for file in files)
    if clash is not None:
        raise ClassInvalidError(
            f"two files have the path '{clash[1]}', one of them the certificate or key of a secret",
            "Give one of the objects another objectAlias.",
        )
