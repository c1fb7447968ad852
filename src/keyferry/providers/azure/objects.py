"""The objects that a class asks for, and the files that they become. [pure]

Messages that people and tests search for are upstream's. What upstream accepts in silence and then
does wrong is an error here: an unknown type, a bad permission, a path that the volume cannot hold,
two objects on one path, a name that no vault can hold.

Source: docs/reference/upstream-azure-provider.md#objects
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.volume_paths import path_conflict, path_problem
from keyferry.providers.api import NamedFile
from keyferry.providers.azure.objects_yaml import EXPIRY_WARNING_KEY as EXPIRY_WARNING
from keyferry.providers.azure.objects_yaml import parse_expiry_warning, read_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from keyferry.providers.azure.objects_yaml import Entry

MAX_HISTORY = 1000
"""More versions of one object are not delivered, however many a class asks for."""
MAX_FILES = 10_000
"""One volume does not hold more."""


class ObjectType(Enum):
    """What an object of a vault can be."""

    SECRET = "secret"  # noqa: S105 - a word of the format
    KEY = "key"
    CERT = "cert"


class ObjectEncoding(Enum):
    """How the value of a secret stands for the bytes of the file."""

    UTF8 = "utf-8"
    BASE64 = "base64"
    HEX = "hex"


class ObjectFormat(Enum):
    """In which form a certificate with its key is delivered."""

    PEM = "pem"
    PFX = "pfx"
    """PKCS#12 as the vault keeps it, which is base64 text."""
    PKCS12 = "pkcs12"
    """PKCS#12 as bytes, an extension of ours."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """What to ask the vault for; equal for two files that show the same object.

    Attributes:
        type: what it is.
        name: its name in the vault.
        version: the version asked for; "" means the current one.
    """

    type: ObjectType
    name: str
    version: str

    @property
    def id(self) -> str:
        """How pod statuses call it."""
        return f"{self.type.value}/{self.name}"

    def __str__(self) -> str:
        """How a person would call it."""
        version = f" version {self.version}" if self.version else ""
        return f"{self.type.value} {self.name}{version}"


@dataclass(frozen=True, slots=True)
class KeyVaultObject:
    """One entry of `objects`.

    Attributes:
        ref: what it asks for.
        path: its file in the volume, the alias if there is one, else the name; with a history the
            folder of its files.
        mode: permission bits of the file; None leaves them to the driver.
        encoding: how the value stands for the bytes.
        format: the form of a certificate-backed secret.
        history: how many versions to deliver, at least 1.
        expiry_warning: seconds before its end from which on somebody is to hear of it; 0 for never.
    """

    ref: ObjectRef
    path: str
    mode: int | None
    encoding: ObjectEncoding
    format: ObjectFormat
    history: int
    expiry_warning: float = 0.0

    @property
    def paths(self) -> tuple[str, ...]:
        """Its file, or with a history those of all versions that there may be, the newest first."""
        if self.history == 1:
            return (self.path,)
        return tuple(f"{self.path}/{index}" for index in range(self.history))

    @property
    def ids(self) -> tuple[str, ...]:
        """How pod statuses call what is in each of `paths`."""
        if self.history == 1:
            return (self.ref.id,)
        return tuple(f"{self.ref.id}/{index}" for index in range(self.history))


def parse_objects(text: str, *, expiry_warning: float = 0.0) -> tuple[KeyVaultObject, ...]:
    """Every object that the parameter `objects` lists, in its order, all of them checked.

    Args:
        text: the parameter.
        expiry_warning: of objects that say nothing of it, in seconds.

    Raises:
        ClassInvalidError: the text or an entry of it is malformed, or there is no entry.
    """
    # The pods of a class bring the same text again and again.
    parse = _parse_cached if len(text) <= _MAX_CACHED_LENGTH else _parse
    return parse(text, expiry_warning)


def _parse(text: str, expiry_warning: float) -> tuple[KeyVaultObject, ...]:
    if not text.strip():
        raise ClassInvalidError("objects is not set", "List at least one object under array:.")
    objects = tuple(_build_object(entry, expiry_warning) for entry in read_entries(text))
    if not objects:
        problem = "objects lists no object, its array is empty"
        raise ClassInvalidError(problem, "List at least one object, or remove the volume.")
    if sum(found.history for found in objects) > MAX_FILES:
        raise ClassInvalidError(
            f"objects asks for more than {MAX_FILES} files",
            "Lower objectVersionHistory, or spread the objects over several volumes.",
        )
    clash = path_conflict(path for found in objects for path in found.paths)
    if clash is not None:
        raise _clash_error(*clash)
    return objects


_parse_cached = lru_cache(maxsize=128)(_parse)
_MAX_CACHED_LENGTH = 1 << 15
"""Longer texts are parsed each time, so that what is remembered stays small."""


def fetch_error_prefix(object_type: str, name: str, version: str) -> str:
    """What precedes the cause when one object fails, as upstream words it."""
    return (
        f"failed to get objectType:{excerpt(object_type)}, objectName:{excerpt(name)}, "
        f"objectVersion:{excerpt(version)}"
    )


def _clash_error(first: str, second: str) -> ClassInvalidError:
    problem = (
        f"two objects have the file path '{excerpt(first)}'"
        if first == second
        else f"the file path '{excerpt(first)}' of one object is a folder in the path "
        f"'{excerpt(second)}' of another"
    )
    return ClassInvalidError(problem, "Give one of them another objectAlias.")


def _build_object(entry: Entry, expiry_warning: float) -> KeyVaultObject:
    """Check one entry: format, encoding, file name as upstream does, then what only we check."""
    type_, name = entry.string("objectType"), entry.string("objectName")
    version = entry.string("objectVersion")
    history = entry.integer("objectVersionHistory")
    path = entry.string("objectAlias") or name
    format_, encoding = entry.string("objectFormat"), entry.string("objectEncoding")
    permission, warning = entry.string("filePermission"), entry.string(EXPIRY_WARNING)
    try:
        checked_format = _parse_format(format_, type_)
        checked_encoding = _parse_encoding(encoding, type_)
        _check_binary_format(checked_format, checked_encoding)
        _check_path(path)
        ref = ObjectRef(_parse_type(type_), _check_name(name), _parse_version(version))
        mode = _parse_mode(permission)
        warn_before = parse_expiry_warning(warning, default=expiry_warning)
    except ClassInvalidError as error:
        problem = f"{fetch_error_prefix(type_, name, version)}: {error.problem} ({entry.location})"
        raise ClassInvalidError(problem, error.remedy) from None
    count = min(max(history, 1), MAX_HISTORY)
    return KeyVaultObject(ref, path, mode, checked_encoding, checked_format, count, warn_before)


def _parse_format(text: str, type_: str) -> ObjectFormat:
    if text.casefold() not in ("", "pem", "pfx", "pkcs12"):
        raise ClassInvalidError(f"invalid objectFormat: {excerpt(text)}, should be PEM or PFX")
    is_secret = type_ == ObjectType.SECRET.value
    # Upstream compares with the lower-case word here: "PFX" passes for keys and certificates, and
    # is ignored. Classes that have it must go on working.
    if not is_secret and (text == "pfx" or text.casefold() == "pkcs12"):
        raise ClassInvalidError(
            "PFX format only supported for objectType: secret",
            "A certificate with its key is read as objectType: secret.",
        )
    return ObjectFormat(text.casefold()) if is_secret and text else ObjectFormat.PEM


def _check_binary_format(format_: ObjectFormat, encoding: ObjectEncoding) -> None:
    if format_ is ObjectFormat.PKCS12 and encoding is not ObjectEncoding.UTF8:
        raise ClassInvalidError(
            f"objectFormat: pkcs12 gives bytes, which objectEncoding: {encoding.value} cannot undo",
            "Remove objectEncoding.",
        )


def _parse_encoding(text: str, type_: str) -> ObjectEncoding:
    if not text:
        return ObjectEncoding.UTF8
    if type_ != ObjectType.SECRET.value:
        problem = "objectEncoding only supported for objectType: secret"
        raise ClassInvalidError(problem, "Remove objectEncoding.")
    try:
        return ObjectEncoding(text.casefold())
    except ValueError:
        problem = f"invalid objectEncoding: {excerpt(text)}, should be hex, base64 or utf-8"
        raise ClassInvalidError(problem) from None


def _check_path(path: str) -> None:
    if not path:
        raise ClassInvalidError("file name must not be empty", "Set objectName.")
    if path.startswith("/"):
        problem = f"file name must be a relative path, not '{excerpt(path)}'"
        raise ClassInvalidError(problem, "Remove the leading '/'.")
    if ".." in path:
        problem = f"file name must not contain '..', as '{excerpt(path)}' does"
        raise ClassInvalidError(problem, "Choose another objectAlias.")
    if broken_rule := path_problem(path):
        problem = f"the file name '{excerpt(path)}' {broken_rule}"
        raise ClassInvalidError(problem, "Choose another objectAlias.")


def _parse_type(text: str) -> ObjectType:
    try:
        return ObjectType(text)
    except ValueError:
        raise ClassInvalidError(
            f"Invalid vaultObjectTypes. Should be secret, key, or cert, not '{excerpt(text)}'",
            "Set objectType, in lower case.",
        ) from None


def _check_name(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z-]{1,127}", text):
        raise ClassInvalidError(
            "objectName cannot be the name of an object in a vault",
            "Such a name has 1 to 127 letters, digits and hyphens; a file name is objectAlias.",
        )
    return text


def _parse_version(text: str) -> str:
    if text == "latest":
        # Upstream takes this word for a history only; a single version it would ask the vault for.
        return ""
    if text and not re.fullmatch(r"[0-9A-Za-z-]{1,127}", text):
        problem = "objectVersion cannot be the version of an object in a vault"
        raise ClassInvalidError(problem, "Leave it empty for the current version.")
    return text


def _parse_mode(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ClassInvalidError(
            f"filePermission '{excerpt(text)}' is not an octal mode", "Write it as in chmod: 0640."
        )
    return int(text, 8)


# --- Which files a class for Azure makes, and by which names they may be called -------------------

CERTIFICATE_SUFFIX = ".crt"
KEY_SUFFIX = ".key"


def named_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    """The files that a mount of a class may produce, and the names for them, in their order.

    Whether an object has as many versions as its history asks for, and whether a secret belongs to
    a certificate and so may come in separate files, only the vault knows; what there is not, a
    mount leaves out.

    Args:
        parameters: of the class alone.

    Raises:
        ClassInvalidError: `objects` is malformed.
    """
    objects = parse_objects(parameters.get("objects", "").strip())
    return tuple(file for found in objects for file in _object_files(found))


def _object_files(vault_object: KeyVaultObject) -> Iterator[NamedFile]:
    for index, path in enumerate(vault_object.paths):
        # The newest version of a history answers to the names of the object as a whole.
        names = {vault_object.ref.name} if index == 0 else set()
        origin = str(vault_object.ref)
        if vault_object.history > 1:
            names |= {f"{vault_object.ref.name}/{index}"} | (
                {vault_object.path} if index == 0 else set()
            )
            origin += f", version {index} of its history"
        if vault_object.ref.type is ObjectType.SECRET:
            for suffix in (CERTIFICATE_SUFFIX, KEY_SUFFIX):
                spelled = frozenset(f"{name}{suffix}" for name in names)
                yield NamedFile(path + suffix, spelled, f"{suffix} of {origin}")
        yield NamedFile(path, frozenset(names), origin)
