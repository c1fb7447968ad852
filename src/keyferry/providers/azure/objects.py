"""Parses the objects of a SecretProviderClass and names their files. [pure]

Messages begin with upstream's texts, because people search for them. Some input that upstream
accepts and then handles wrongly is an error here: an unknown type, a bad permission, a path that
the volume cannot hold, two objects with one path, a name that no vault can hold.

Source: docs/reference/upstream-azure-provider.md#objects
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import NamedFile
from keyferry.errors import ClassInvalidError, excerpt, with_upstream_prefix
from keyferry.formats.unknown_fields import correct_missing
from keyferry.formats.volume_paths import MAX_FILES, count_problem, path_conflict, path_problem
from keyferry.providers.azure.objects_yaml import EXPIRY_WARNING_KEY as EXPIRY_WARNING
from keyferry.providers.azure.objects_yaml import parse_expiry_warning, read_entries
from keyferry.providers.azure.vault_address import (
    INHERITED,
    EntryVault,
    class_vault_label,
    parse_entry_vault,
    vault_labels,
)
from keyferry.providers.known_fields.azure import OBJECT, missing_parameter
from keyferry.records import replace
from keyferry.rendering.class_options import parse_object_defaults
from keyferry.rendering.object_options import (
    NO_DEFAULTS,
    NO_OPTIONS,
    ObjectDefaults,
    ObjectOptions,
    parse_object_options,
)
from keyferry.rendering.selection import FIND, Selection, parse_selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from keyferry.providers.azure.objects_yaml import Entry

MAX_HISTORY = 1000
"""The maximum number of versions of one object; larger values of a history are lowered to it."""


ALL_OBJECTS = "*"
"""The name of the objects of an entry with `find`, and of a list; no object has it."""


class ObjectType(Enum):
    """The types of objects in a vault."""

    SECRET = "secret"  # noqa: S105 - a word of the format
    KEY = "key"
    CERT = "cert"


class ObjectEncoding(Enum):
    """The encodings in which a secret's value represents the bytes of its file."""

    UTF8 = "utf-8"
    BASE64 = "base64"
    HEX = "hex"


class ObjectFormat(Enum):
    """The formats in which a certificate with its key is delivered."""

    PEM = "pem"
    PFX = "pfx"
    """PKCS#12 as the vault stores it: base64 text."""
    PKCS12 = "pkcs12"
    """PKCS#12 as bytes (Keyferry extension)."""


class ObjectRef(Struct, frozen=True):
    """A reference to an object in a vault.

    Attributes:
        type: the type of the object.
        name: the name of the object in the vault.
        version: the requested version; "" means the current one.
    """

    type: ObjectType
    name: str
    version: str

    @property
    def id(self) -> str:
        """The ID of the object in pod statuses."""
        return f"{self.type.value}/{self.name}"

    def __str__(self) -> str:
        """Return a description for messages, such as `secret db-password`."""
        version = f" version {self.version}" if self.version else ""
        return f"{self.type.value} {self.name}{version}"


class KeyVaultObject(Struct, frozen=True):
    """One entry of `objects`.

    Attributes:
        ref: the requested object.
        path: the path of its file in the volume: the alias if set, else the name. With a history,
            the folder of its files.
        mode: permission bits of the file; None: the default of the mount.
        encoding: the encoding of the value.
        format: the format of a certificate-backed secret.
        history: the number of versions to deliver, at least 1.
        expiry_warning: how many seconds before its expiry to warn; 0 for no warning.
        options: those that do not depend on the provider.
        entry_vault: the vault and identity that the entry names.
        source: the index of the source that has the object.
        vault: the name of its vault if the SecretProviderClass uses several; "" otherwise.
        selection: of an entry with `find`, which has no name, and of the objects that it selects.
    """

    ref: ObjectRef
    path: str
    mode: int | None
    encoding: ObjectEncoding
    format: ObjectFormat
    history: int
    expiry_warning: float = 0.0
    options: ObjectOptions = NO_OPTIONS
    entry_vault: EntryVault = INHERITED
    source: int = 0
    vault: str = ""
    selection: Selection | None = None

    @property
    def is_selector(self) -> bool:
        """Whether it is an entry with `find`, whose objects are known only from the vault."""
        return self.ref.name == ALL_OBJECTS

    def __str__(self) -> str:
        """Return a description for messages, with the vault if there are several."""
        return f"{self.ref} of vault {self.vault}" if self.vault else str(self.ref)

    @property
    def id(self) -> str:
        """The ID of the object in pod statuses, with the vault if there are several."""
        return f"{self.vault}/{self.ref.id}" if self.vault else self.ref.id

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of its file; with a history, one path per possible version, newest first."""
        if self.history == 1:
            return (self.path,)
        return tuple(f"{self.path}/{index}" for index in range(self.history))

    @property
    def file_paths(self) -> tuple[str, ...]:
        """The paths of all its files whose names are known before the mount."""
        if self.is_selector:
            return ()
        whole = () if self.options.expand_keys else self.paths
        suffixes = [path.removeprefix(self.path) for path in self.paths]
        inner = self.options.extracted_paths
        return (*whole, *(path + suffix for path in inner for suffix in suffixes))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ID in pod statuses of the content of each of `paths`."""
        if self.history == 1:
            return (self.id,)
        return tuple(f"{self.id}/{index}" for index in range(self.history))


def objects_text(parameters: Mapping[str, str]) -> str:
    """Return the parameter `objects`.

    Raises:
        ClassInvalidError: it is not set. The message names a parameter that resembles it.
    """
    text = parameters.get("objects", "").strip()
    if not text:
        remedy = "List at least one object under array:."
        written, remedy = missing_parameter(("objects",), parameters, remedy)
        raise ClassInvalidError(f"objects is not set{written}", remedy)
    return text


def parse_objects(
    text: str,
    *,
    expiry_warning: float = 0.0,
    defaults: ObjectDefaults = NO_DEFAULTS,
    class_vault: str = "",
) -> tuple[KeyVaultObject, ...]:
    """Parse and validate the parameter `objects`; the result has its order.

    Args:
        text: the parameter.
        expiry_warning: default of `expiryWarning`, in seconds.
        defaults: of the options.
        class_vault: the label of the vault of entries that name none; see `vault_label`.

    Raises:
        ClassInvalidError: the text or an entry is malformed, or there is no entry.
    """
    # Cached, because all pods of a SecretProviderClass pass the same text.
    parse = _parse_cached if len(text) <= _MAX_CACHED_LENGTH else _parse
    return parse(text, expiry_warning, defaults, class_vault)


def _parse(
    text: str, expiry_warning: float, defaults: ObjectDefaults, class_vault: str
) -> tuple[KeyVaultObject, ...]:
    objects = tuple(_build_object(entry, expiry_warning, defaults) for entry in read_entries(text))
    objects = _with_vaults(objects, class_vault)
    if not objects:
        problem = "objects lists no object, its array is empty"
        raise ClassInvalidError(problem, "List at least one object, or remove the volume.")
    files = sum(len(vault_object.file_paths) for vault_object in objects)
    if files > MAX_FILES:
        raise ClassInvalidError(
            f"objects asks for {files} files; a volume has at most {MAX_FILES}",
            "Lower objectVersionHistory, or split the objects into several volumes.",
        )
    if excess := count_problem([path for entry in objects for path in entry.file_paths]):
        raise ClassInvalidError(f"objects {excess}", "Use fewer folders in objectAlias.")
    clash = path_conflict(path for vault_object in objects for path in vault_object.file_paths)
    if clash is not None:
        raise _clash_error(*clash, objects)
    return objects


def _with_vaults(
    objects: tuple[KeyVaultObject, ...], class_vault: str
) -> tuple[KeyVaultObject, ...]:
    """Return the objects with the name of their vault, if they are in several."""
    labels = vault_labels([each.entry_vault for each in objects], class_vault)
    if not labels:
        return objects
    return tuple(replace(each, vault=label) for each, label in zip(objects, labels, strict=True))


_parse_cached = lru_cache(maxsize=128)(_parse)
_MAX_CACHED_LENGTH = 1 << 15
"""Longer texts (in characters) are not cached, to bound the size of the cache."""


def fetch_error_prefix(object_type: str, name: str, version: str) -> str:
    """Return upstream's prefix of the error for one object."""
    return (
        f"failed to get objectType:{excerpt(object_type)}, objectName:{excerpt(name)}, "
        f"objectVersion:{excerpt(version)}"
    )


def _clash_error(first: str, second: str, objects: Sequence[KeyVaultObject]) -> ClassInvalidError:
    owners = dict.fromkeys(str(each) for each in objects if each.vault and first in each.paths)
    if first == second and len(owners) > 1:
        names = " and ".join(list(owners)[:2])
        problem = f"{names} have the same file path '{excerpt(first)}'"
        return ClassInvalidError(problem, "Set objectAlias for one of them.")
    problem = (
        f"two objects have the file path '{excerpt(first)}'"
        if first == second
        else f"the file path '{excerpt(first)}' of one object is a folder in the path "
        f"'{excerpt(second)}' of another"
    )
    return ClassInvalidError(problem, "Set another objectAlias for one of them.")


def _build_object(entry: Entry, expiry_warning: float, defaults: ObjectDefaults) -> KeyVaultObject:
    """Check one entry: format, encoding and file name in upstream's order, then the rest."""
    type_, name = entry.string("objectType"), entry.string("objectName")
    version = entry.string("objectVersion")
    history = entry.integer("objectVersionHistory")
    path = entry.string("objectAlias") or name
    format_, encoding = entry.string("objectFormat"), entry.string("objectEncoding")
    permission, warning = entry.string("filePermission"), entry.string(EXPIRY_WARNING)
    vault_name, url = entry.string("keyvaultName"), entry.string("keyvaultURL")
    tenant = entry.string("tenantID") or entry.string("tenantId")
    client_id = entry.string("clientID")
    try:
        checked_format = _parse_format(format_, type_)
        checked_encoding = _parse_encoding(encoding, type_)
        _check_binary_format(checked_format, checked_encoding)
        fields = entry.fields.entries if entry.fields else {}
        selection = parse_selection(fields, has_folder=False, refused=("objectName",))
        if selection is None:
            _check_path(path)
            ref = ObjectRef(_parse_type(type_), _check_name(name), _parse_version(version))
        else:
            ref = ObjectRef(_parse_type(type_), ALL_OBJECTS, "")
        mode = _parse_mode(permission)
        warn_before = parse_expiry_warning(warning, default=expiry_warning)
        options = parse_object_options(fields, defaults)
        _check_extraction(options, type_)
        entry_vault = parse_entry_vault(
            name=vault_name, url=url, tenant=tenant, client_id=client_id, location=entry.location
        )
    except ClassInvalidError as error:
        written, remedy = _misspelled_field(entry, error.remedy)
        placed = ClassInvalidError(f"{error.problem}{written} ({entry.location})", remedy)
        placed.upstream_prefix = error.upstream_prefix
        prefix = fetch_error_prefix(type_, name, version)
        raise with_upstream_prefix(prefix, placed) from None
    count = min(max(history, 1), MAX_HISTORY)
    return KeyVaultObject(
        ref,
        path,
        mode,
        checked_encoding,
        checked_format,
        count,
        warn_before,
        options,
        entry_vault,
        selection=selection,
    )


def _misspelled_field(entry: Entry, remedy: str) -> tuple[str, str]:
    """Return how an error continues if a required field is misspelled, and its remedy."""
    for field in ("objectName", "objectType"):
        if not (entry.string(field) or FIND in entry.names):
            written, rename = correct_missing(OBJECT, (field,), entry.names, remedy)
            if written:
                return written, rename
    return "", remedy


def _parse_format(text: str, type_: str) -> ObjectFormat:
    if text.casefold() not in ("", "pem", "pfx", "pkcs12"):
        problem = f"invalid objectFormat: {excerpt(text)}, should be PEM or PFX"
        raise ClassInvalidError(problem, "Set objectFormat to pem, pfx or pkcs12, or remove it.")
    is_secret = type_ == ObjectType.SECRET.value
    # Upstream's comparison is case-sensitive here: for keys and certificates "PFX" is accepted and
    # ignored. Existing SecretProviderClasses with it must continue to work.
    if not is_secret and (text == "pfx" or text.casefold() == "pkcs12"):
        raise ClassInvalidError(
            "PFX format only supported for objectType: secret",
            "Set objectType: secret to read a certificate with its key.",
        )
    return ObjectFormat(text.casefold()) if is_secret and text else ObjectFormat.PEM


def _check_binary_format(format_: ObjectFormat, encoding: ObjectEncoding) -> None:
    if format_ is ObjectFormat.PKCS12 and encoding is not ObjectEncoding.UTF8:
        raise ClassInvalidError(
            "objectFormat: pkcs12 delivers bytes, which objectEncoding: "
            f"{encoding.value} cannot decode",
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
        remedy = "Set objectEncoding to one of these, or remove it to keep the value as it is."
        raise ClassInvalidError(problem, remedy) from None


def _check_extraction(options: ObjectOptions, type_: str) -> None:
    if options.extracts and type_ in (ObjectType.KEY.value, ObjectType.CERT.value):
        name = "expandKeys" if options.expand_keys else "jmesPath"
        problem = f"{name} only supported for objectType: secret"
        raise ClassInvalidError(problem, f"Remove {name}: a {type_} is PEM, and not JSON.")


def _check_path(path: str) -> None:
    if not path:
        remedy = "Set objectName, or remove the entry if it is empty."
        raise ClassInvalidError("file name must not be empty", remedy)
    if path.startswith("/"):
        problem = f"file name must be a relative path, not '{excerpt(path)}'"
        raise ClassInvalidError(problem, "Remove the leading '/'.")
    if ".." in path:
        problem = f"file name must not contain '..', as '{excerpt(path)}' does"
        raise ClassInvalidError(problem, "Set another objectAlias.")
    if broken_rule := path_problem(path):
        problem = f"the file name '{excerpt(path)}' {broken_rule}"
        raise ClassInvalidError(problem, "Set another objectAlias.")


def _parse_type(text: str) -> ObjectType:
    try:
        return ObjectType(text)
    except ValueError:
        problem = f"objectType is not secret, key or cert: '{excerpt(text)}'"
        error = ClassInvalidError(problem, _type_remedy(text))
        prefix = "Invalid vaultObjectTypes. Should be secret, key, or cert"
        raise with_upstream_prefix(prefix, error) from None


def _type_remedy(text: str) -> str:
    folded = text.casefold()
    if "/" in text or folded == "opaque":
        return (
            f"Set objectType: secret. '{excerpt(text)}' is a type of Kubernetes Secrets: write it "
            "as type in spec.secretObjects."
        )
    meant = next((type_ for type_ in ObjectType if folded.startswith(type_.value)), None)
    if meant is not None:
        return f"Write objectType: {meant.value}."
    return "Set objectType to one of these, in lower case."


def _check_name(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z-]{1,127}", text):
        remedy = "Use 1 to 127 letters, digits and hyphens; set the file name with objectAlias."
        odd = next((char for char in text if not char.isascii()), "")
        if odd:
            remedy = f"Remove the character U+{ord(odd):04X}. {remedy}"
        raise ClassInvalidError("objectName is not a valid name of an object in a vault", remedy)
    return text


def _parse_version(text: str) -> str:
    if text == "latest":
        # Upstream accepts this word only with a history; otherwise it requests it as a version.
        return ""
    if text and not re.fullmatch(r"[0-9A-Za-z-]{1,127}", text):
        problem = "objectVersion is not a valid version of an object in a vault"
        raise ClassInvalidError(problem, "Leave it empty for the current version.")
    return text


def _parse_mode(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ClassInvalidError(
            f"filePermission '{excerpt(text)}' is not an octal mode", "Write a mode such as 0640."
        )
    return int(text, 8)


# --- The files that a SecretProviderClass can produce, and the names by which to refer to them ----

CERTIFICATE_SUFFIX = ".crt"
KEY_SUFFIX = ".key"


def named_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    """Return the files that a mount may produce, in the order of `objects`, with their names.

    A mount may produce fewer: an object may have fewer versions than its history, and only secrets
    that belong to a certificate are split into separate files.

    Args:
        parameters: the parameters of the SecretProviderClass.

    Raises:
        ClassInvalidError: `objects` is malformed.
    """
    defaults, class_vault = parse_object_defaults(parameters), class_vault_label(parameters)
    objects = parse_objects(objects_text(parameters), defaults=defaults, class_vault=class_vault)
    return tuple(file for vault_object in objects for file in _object_files(vault_object))


def _object_files(vault_object: KeyVaultObject) -> Iterator[NamedFile]:
    if vault_object.is_selector:
        return  # only the vault knows their names
    options = vault_object.options
    for index, path in enumerate(vault_object.paths):
        # The names of the object also refer to the newest version of its history.
        names = {vault_object.ref.name} if index == 0 else set()
        origin = str(vault_object)
        if vault_object.history > 1:
            names |= {f"{vault_object.ref.name}/{index}"} | (
                {vault_object.path} if index == 0 else set()
            )
            origin += f", version {index} of its history"
        inner = path.removeprefix(vault_object.path)
        for each in options.jmes_paths:
            yield NamedFile(
                each.path + inner,
                frozenset({each.path} if index == 0 else ()) - {each.path + inner},
                f"'{excerpt(each.expression)}' of {origin}",
                options.optional,
            )
        if vault_object.ref.type is ObjectType.SECRET:
            for suffix in (CERTIFICATE_SUFFIX, KEY_SUFFIX):
                suffixed = frozenset(f"{name}{suffix}" for name in names)
                named = f"{suffix} of {origin}"
                yield NamedFile(path + suffix, suffixed, named, options.optional)
        yield NamedFile(path, frozenset(names), origin, options.optional, options.expand_keys)
