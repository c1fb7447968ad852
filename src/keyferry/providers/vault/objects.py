"""Parses `objects`, the YAML list of objects in a SecretProviderClass. [pure]

Some mistakes that upstream reports only after the vault's response, or never, are errors here
before any request: a path that is invalid in the volume, an unknown encoding, an invalid mode, and
arguments that JSON cannot represent.

Source: docs/reference/upstream-vault-provider.md#objects
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import NamedFile
from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.go_json import NotJsonError, write_json
from keyferry.formats.unknown_fields import correct_missing
from keyferry.formats.volume_paths import count_problem, path_conflict, path_problem
from keyferry.formats.yaml_text import (
    ScalarStyle,
    YamlError,
    YamlList,
    YamlMap,
    YamlScalar,
    read_yaml,
)
from keyferry.formats.yaml_values import parse_integer, typed_value
from keyferry.providers.vault.api_path import ApiPath, parse_api_path
from keyferry.providers.vault.entry_vault import INHERITED, EntryVault, parse_entry_vault
from keyferry.providers.vault.product import VAULT
from keyferry.records import replace
from keyferry.rendering.class_options import parse_object_defaults
from keyferry.rendering.object_options import (
    NO_DEFAULTS,
    NO_OPTIONS,
    ObjectDefaults,
    ObjectOptions,
    parse_object_options,
)
from keyferry.rendering.selection import Selection, parse_selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from keyferry.formats.yaml_text import YamlNode
    from keyferry.providers.vault.product import Product

MAX_MODE = 0o777
_METHOD = re.compile(r"[A-Za-z]{1,20}")
_FIELD_MEANINGS = {
    "objectName": "the path of the file in the volume",
    "secretPath": "the API path of the secret",
}


class ValueEncoding(Enum):
    """How the value of a key encodes the content of the file."""

    UTF8 = "utf-8"
    BASE64 = "base64"
    HEX = "hex"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request for a secret. Objects that use parts of one response have equal requests.

    Attributes:
        path: API path with its query.
        method: HTTP method.
        arguments: JSON body, which may be sensitive; None for none.
    """

    path: ApiPath
    method: str = "GET"
    arguments: bytes | None = field(default=None, repr=False)

    @property
    def cacheable(self) -> bool:
        """Whether the request is a plain read, which should not change anything in the vault."""
        return self.method == "GET" and self.arguments is None

    def __str__(self) -> str:
        """Return the path for messages, with the method unless it is GET."""
        return f"{self.method} {self.path}" if self.method != "GET" else str(self.path)


SourceRequest = tuple[int, ReadRequest]
"""A request with the index of its source."""


@dataclass(frozen=True, slots=True)
class VaultObject:
    """One entry of `objects`.

    Attributes:
        name: path of the file in the volume, and the object's name in pod statuses.
        request: how the secret is read.
        key: the part of the response to use; "" for the whole response.
        mode: permission bits of the file; None to use the driver's.
        encoding: how the value encodes the content.
        canonical_json: the entry as JSON, from which the version is computed.
        options: those that do not depend on the provider.
        entry_vault: the vault and role that the entry names.
        source: the index of the source that has the secret.
        vault: the name of its vault if the SecretProviderClass uses several; "" otherwise.
        selection: of an entry with `find`, which has no name, and of the objects that it selects.
    """

    name: str
    request: ReadRequest
    key: str
    mode: int | None
    encoding: ValueEncoding
    canonical_json: bytes = field(repr=False)
    options: ObjectOptions = NO_OPTIONS
    entry_vault: EntryVault = INHERITED
    source: int = 0
    vault: str = ""
    selection: Selection | None = None

    @property
    def is_selector(self) -> bool:
        """Whether it is an entry with `find`, whose objects are known only from the vault."""
        return self.selection is not None and not self.name

    @property
    def id(self) -> str:
        """The ID of the object in pod statuses, with the vault if there are several."""
        return f"{self.vault}/{self.name}" if self.vault else self.name

    @property
    def source_request(self) -> SourceRequest:
        """The request with its source: equal for objects that use parts of one response."""
        return self.source, self.request

    @property
    def file_paths(self) -> tuple[str, ...]:
        """The paths of all its files whose names are known before the mount."""
        if self.is_selector:
            return ()
        whole = () if self.options.expand_keys else (self.name,)
        return (*whole, *self.options.extracted_paths)

    def __str__(self) -> str:
        """Return the name of the object for messages."""
        return f"object {excerpt(self.name)}"


def parse_objects(
    text: str, *, defaults: ObjectDefaults = NO_DEFAULTS, product: Product = VAULT
) -> tuple[VaultObject, ...]:
    """Parse and validate all entries of `objects`, in their order.

    Args:
        text: the parameter.
        defaults: of the options.
        product: product that the provider is for.

    Raises:
        ClassInvalidError: the text or an entry is malformed, or there is no entry.
    """
    objects = tuple(
        _Entry(node, index, defaults, product).parse()
        for index, node in enumerate(entry_nodes(text))
    )
    if not objects:
        problem = "objects is an empty list"
        raise ClassInvalidError(problem, "List at least one object, or remove the volume.")
    names = [entry.name for entry in objects if not entry.is_selector]
    paths = [path for entry in objects for path in entry.file_paths]
    if excess := count_problem(paths):
        raise ClassInvalidError(
            f"objects {excess}", "Split the objects into several volumes, or use fewer folders."
        )
    counts = Counter(names)
    repeated = [name for name in counts if counts[name] > 1]
    if repeated:
        raise ClassInvalidError(
            f"objectName is not unique: {', '.join(map(excerpt, repeated))}",
            "Set a different objectName for each object: each object becomes one file.",
        )
    if conflict := path_conflict(paths):
        first, second = map(excerpt, conflict)
        problem = f"the objectName '{first}' is a directory in the objectName '{second}'"
        if first == second:
            problem = f"two files have the path '{first}', one of them from jmesPath"
        raise ClassInvalidError(problem, "Rename one of the objects.")
    return objects


def entry_nodes(text: str) -> tuple[YamlNode, ...]:
    """Return the entries of `objects`, unchecked.

    Raises:
        ClassInvalidError: the text is not a YAML list.
    """
    try:
        root = read_yaml(text)
    except YamlError as error:
        detail = f"{error.detail} (line {error.line} of objects)"
        raise ClassInvalidError(f"objects is not a YAML list: {detail}", error.remedy) from error
    match root:
        case YamlList():
            return root.present
        case None | YamlScalar(text="", style=ScalarStyle.PLAIN):
            return ()
        case _:
            raise ClassInvalidError(
                f"objects is not a YAML list (line {root.line} of objects)",
                "Write 'objects: |' and below it one '- objectName: ...' per object, without "
                "'array:'.",
            )


class _Entry(Struct, frozen=True):
    """One item of the list, not yet validated."""

    node: YamlNode
    index: int
    defaults: ObjectDefaults
    product: Product

    def parse(self) -> VaultObject:
        """Validate all fields and return the object."""
        name, path = self._text("objectName"), self._text("secretPath")
        key, method = self._text("secretKey"), self._text("method")
        permission, encoding = self._integer("filePermission"), self._text("encoding")
        arguments = self._arguments()
        if (selection := self._selection()) is not None:
            return self._selector(selection, key, permission, self._encoding(encoding))
        for field_name, value in (("objectName", name), ("secretPath", path)):
            if not value:
                raise self._missing_error(field_name)
        if problem := path_problem(name):
            raise self._error(
                f"the objectName '{excerpt(name)}' {problem}", "Choose another objectName."
            )
        if method and not _METHOD.fullmatch(method):
            raise self._error("method is not a valid HTTP method", "Set it to GET, POST or PUT.")
        try:
            request = ReadRequest(parse_api_path(path), method.upper() or "GET", arguments)
        except ValueError as error:
            remedy = "Write the path as for `vault read`."
            raise self._error(f"secretPath {error}", remedy) from None
        return VaultObject(
            name=name,
            request=request,
            key=key,
            mode=permission or None,
            encoding=self._encoding(encoding),
            canonical_json=_canonical_json(
                (name, path, key, method), arguments, permission, encoding
            ),
            options=self._options(),
            entry_vault=self._entry_vault(),
        )

    def _selection(self) -> Selection | None:
        fields = self.node.entries if isinstance(self.node, YamlMap) else {}
        refused = ("objectName", "secretPath", "method", "secretArgs")
        try:
            selection = parse_selection(fields, has_folder=True, refused=refused)
            return None if selection is None else _with_api_path(selection)
        except ClassInvalidError as error:
            raise self._error(error.problem, error.remedy) from None

    def _selector(
        self, selection: Selection, key: str, permission: int, encoding: ValueEncoding
    ) -> VaultObject:
        return VaultObject(
            name="",
            request=ReadRequest(ApiPath(selection.folder)),
            key=key,
            mode=permission or None,
            encoding=encoding,
            canonical_json=b"",
            options=self._options(),
            entry_vault=self._entry_vault(),
            selection=selection,
        )

    def _entry_vault(self) -> EntryVault:
        fields = self.node.entries if isinstance(self.node, YamlMap) else {}
        try:
            return parse_entry_vault(fields, self.product, self._location)
        except ClassInvalidError as error:
            raise self._error(error.problem, error.remedy) from None

    def _options(self) -> ObjectOptions:
        try:
            fields = self.node.entries if isinstance(self.node, YamlMap) else {}
            return parse_object_options(fields, self.defaults)
        except ClassInvalidError as error:
            raise self._error(error.problem, error.remedy) from None

    def _field(self, name: str) -> YamlNode | None:
        match self.node:
            case YamlMap(entries):
                return entries.get(name)
            case YamlScalar(style=ScalarStyle.LITERAL | ScalarStyle.FOLDED):
                remedy = "Remove the '|' after the '-': only entries of Azure are texts."
                raise self._error("the entry is not a mapping", remedy)
            case _:
                remedy = "Write lines of the form 'field: value'."
                raise self._error("the entry is not a mapping", remedy)

    def _scalar(self, name: str) -> YamlScalar | None:
        node = self._field(name)
        if node is None or isinstance(node, YamlScalar):
            return node
        raise self._error(f"{name} is a list or a mapping", "Set it to a single value.")

    def _text(self, name: str) -> str:
        """Return a field as written: an unquoted number or boolean keeps its spelling."""
        scalar = self._scalar(name)
        return scalar.text if scalar else ""

    def _integer(self, name: str) -> int:
        """Return a mode field; 0 if it is absent or null."""
        scalar = self._scalar(name)
        if scalar is None or scalar.is_null:
            return 0
        number = parse_integer(scalar)
        if number is None or not 0 <= number <= MAX_MODE:
            raise self._error(
                f"{name} is not a mode from 0 to 0777: '{excerpt(scalar.text)}'",
                "Write the mode in octal, with a leading 0 and without quotes, such as 0640.",
            )
        return number

    def _encoding(self, text: str) -> ValueEncoding:
        try:
            return ValueEncoding(text.casefold()) if text else ValueEncoding.UTF8
        except ValueError:
            problem = f"the encoding '{excerpt(text)}' is unknown"
            raise self._error(problem, "Set it to utf-8, base64 or hex.") from None

    def _arguments(self) -> bytes | None:
        node = self._field("secretArgs")
        match node:
            case None | YamlScalar(text="", style=ScalarStyle.PLAIN):
                return None
            case YamlMap():
                try:
                    return write_json(typed_value(node))
                except NotJsonError:
                    problem = "secretArgs contains a number that is not finite"
                    remedy = "Use finite numbers: JSON cannot represent others."
                    raise self._error(problem, remedy) from None
            case _:
                raise self._error("secretArgs is not a mapping", "Write one argument per line.")

    def _missing_error(self, name: str) -> ClassInvalidError:
        """Return the error for a missing field, which names a misspelled one."""
        names = self.node.entries if isinstance(self.node, YamlMap) else ()
        remedy = f"Set it to {_FIELD_MEANINGS[name]}."
        table = self.product.object_fields
        written, remedy = correct_missing(table, (name,), names, remedy)
        return self._error(f"{name} is missing{written}", remedy)

    @property
    def _location(self) -> str:
        return f"the entry at index {self.index}, line {self.node.line} of objects"

    def _error(self, problem: str, remedy: str) -> ClassInvalidError:
        return ClassInvalidError(f"objects: {problem} ({self._location})", remedy)


def _with_api_path(selection: Selection) -> Selection:
    """Return the selection with its folder as an API path that secrets are read below."""
    try:
        path = parse_api_path(selection.folder)
    except ValueError as error:
        raise ClassInvalidError(f"find.path {error}", "Write it like secretPath.") from None
    if path.query:
        raise ClassInvalidError("find.path has a query", "Remove the '?' and what follows.")
    folder = f"{path.path}/"
    if "/data/" not in folder:
        folder = folder.replace("/metadata/", "/data/", 1)
    if selection.tags and "/data/" not in folder:
        raise ClassInvalidError(
            "find.tags is set, but find.path is not a path of KV version 2, and version 1 has no"
            " metadata",
            "Write find.path with data/ after the mount, or remove tags.",
        )
    return replace(selection, folder=folder.rstrip("/"))


def selected_object(entry: VaultObject, name: str, path: str) -> VaultObject:
    """Return an object that an entry with `find` selects.

    Args:
        entry: the entry.
        name: of the secret in the folder.
        path: of its file.
    """
    assert entry.selection is not None
    secret_path = f"{entry.selection.folder}/{name}"
    encoding = "" if entry.encoding is ValueEncoding.UTF8 else entry.encoding.value
    texts = (path, secret_path, entry.key, "")
    return replace(
        entry,
        name=path,
        request=ReadRequest(ApiPath(secret_path)),
        canonical_json=_canonical_json(texts, None, entry.mode or 0, encoding),
    )


def _canonical_json(
    texts: tuple[str, str, str, str], arguments: bytes | None, permission: int, encoding: str
) -> bytes:
    """Return the entry as JSON, as upstream encodes it to compute versions.

    Source: docs/reference/upstream-vault-provider.md#object-versions
    """
    keys = ("ObjectName", "SecretPath", "SecretKey", "Method")
    pairs = [f'"{key}":'.encode() + write_json(text) for key, text in zip(keys, texts, strict=True)]
    pairs += [b'"SecretArgs":' + (arguments or b"null"), f'"FilePermission":{permission}'.encode()]
    pairs += [b'"Encoding":' + write_json(encoding)]
    return b"{" + b",".join(pairs) + b"}"


# --- Files that a mount will produce --------------------------------------------------------------


def named_files(parameters: Mapping[str, str], product: Product = VAULT) -> tuple[NamedFile, ...]:
    """Return the files that a mount will produce, in their order. Their only name is the path.

    Args:
        parameters: parameters of the SecretProviderClass.
        product: product that the provider is for.

    Raises:
        ClassInvalidError: `objects` is malformed.
    """
    text = parameters.get("objects", "")
    if not text.strip():
        remedy = "List at least one object."
        written, remedy = correct_missing(product.parameters, ("objects",), parameters, remedy)
        raise ClassInvalidError(f"objects is not set{written}", remedy)
    defaults = parse_object_defaults(parameters)
    objects = parse_objects(text, defaults=defaults, product=product)
    return tuple(
        file for entry in objects if not entry.is_selector for file in _object_files(entry)
    )


def _object_files(entry: VaultObject) -> Iterator[NamedFile]:
    options = entry.options
    for each in options.jmes_paths:
        origin = f"'{excerpt(each.expression)}' of {entry}"
        yield NamedFile(each.path, frozenset(), origin, options.optional)
    yield NamedFile(entry.name, frozenset(), str(entry), options.optional, options.expand_keys)
