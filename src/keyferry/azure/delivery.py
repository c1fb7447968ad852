"""From what came of a fetch to the content of a volume: all of it, or why not. [pure]"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from keyferry.azure.fetch_plan import Ask, Fetched, ask_of
from keyferry.azure.objects import ObjectRef, VaultObject, fetch_context
from keyferry.azure.render import render
from keyferry.contract import Expiry, MountResult, ObjectVersion, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.paths import path_clash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.azure.contents import Content
    from keyferry.azure.options import BundleOptions

_NAMED_FAILURES = 10
"""So many further failures a message names before it only counts."""

E = TypeVar("E", bound=KeyferryError)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The content of a volume.

    Attributes:
        result: it.
        broken_chains: the objects whose certificates do not form one chain.
    """

    result: MountResult
    broken_chains: tuple[ObjectRef, ...]


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
        raise _first_of(failures)
    _check_clash(files)
    result = MountResult(tuple(versions), tuple(files), tuple(dict.fromkeys(expiries)))
    return Delivery(result, tuple(dict.fromkeys(broken)))


def within(context: str, error: E) -> E:
    """A copy of `error` that begins with `context`; mounts may share the error itself."""
    copied = copy(error)
    copied.problem = f"{context}: {error.problem}"
    return copied


def _expiry(found: VaultObject, newest: Content) -> tuple[Expiry, ...]:
    """When an object ends, if its class wants to know and it does end."""
    at = newest.properties.expires
    if at is None or not found.expiry_warning:
        return ()
    return (Expiry(str(found.ref), at, found.expiry_warning),)


def _first_of(failures: list[tuple[ObjectRef, KeyferryError]]) -> KeyferryError:
    """The first failure, with the names of the others."""
    (ref, first), others = failures[0], failures[1:]
    error = within(fetch_context(ref.type.value, ref.name, ref.version), first)
    names = list(dict.fromkeys(str(other) for other, _ in others if other != ref))
    if names:
        more = len(names) - _NAMED_FAILURES
        tail = f" and {more} more" if more > 0 else ""
        error.problem += f"; also failed: {', '.join(names[:_NAMED_FAILURES])}{tail}"
    error.about = str(ref)
    error.__cause__ = first.__cause__
    return error


def _check_clash(files: Sequence[SecretFile]) -> None:
    """Only separate files can meet: which secrets have them is known only now."""
    clash = path_clash(file.path for file in files)
    if clash is not None:
        raise ClassInvalidError(
            f"two files have the path '{clash[1]}', one of them the certificate or key of a secret",
            "Give one of the objects another objectAlias.",
        )
