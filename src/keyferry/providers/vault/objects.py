"""The objects that a class asks for: the YAML list in its parameter `objects`. [pure]

What upstream notices only when the vault has answered, or never, is an error here before any call:
a path that the volume cannot hold, an unknown encoding, a mode that is none, arguments that no JSON
can hold.

Source: docs/reference/upstream-vault-provider.md#objects
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.go_json import NotJsonError, write_json
from keyferry.formats.volume_paths import path_conflict, path_problem
from keyferry.formats.yaml_text import (
    ScalarStyle,
    YamlError,
    YamlList,
    YamlMap,
    YamlScalar,
    read_yaml,
)
from keyferry.formats.yaml_values import parse_integer, typed_value
from keyferry.providers.api import NamedFile
from keyferry.providers.vault.api_path import ApiPath, parse_api_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.yaml_text import YamlNode

MAX_MODE = 0o777
_METHOD = re.compile(r"[A-Za-z]{1,20}")


_FIELD_MEANINGS = {"objectName": "the path of the file", "secretPath": "a path of the API"}


class ValueEncoding(Enum):
    """How the value of a key stands for the bytes of the file."""

    UTF8 = "utf-8"
    BASE64 = "base64"
    HEX = "hex"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to ask the vault for; equal for objects that show parts of one answer.

    Attributes:
        path: of the API, with its query.
        method: of HTTP.
        arguments: the body, JSON; None for none. It may hold something sensitive.
    """

    path: ApiPath
    method: str = "GET"
    arguments: bytes | None = field(default=None, repr=False)

    @property
    def cacheable(self) -> bool:
        """Whether asking changes nothing, as far as the request tells."""
        return self.method == "GET" and self.arguments is None

    def __str__(self) -> str:
        """How a person would call it."""
        return f"{self.method} {self.path}" if self.method != "GET" else str(self.path)


@dataclass(frozen=True, slots=True)
class VaultObject:
    """One entry of `objects`.

    Attributes:
        name: its file in the volume, and what pod statuses call it.
        request: where it comes from.
        key: which part of the answer; "" for all of it.
        mode: permission bits of the file; None leaves them to the driver.
        encoding: how the value stands for the bytes.
        canonical_json: the entry as the version of its content is made of it, JSON.
    """

    name: str
    request: ReadRequest
    key: str
    mode: int | None
    encoding: ValueEncoding
    canonical_json: bytes = field(repr=False)

    def __str__(self) -> str:
        """How a person would call it."""
        return f"object {excerpt(self.name)}"


def parse_objects(text: str) -> tuple[VaultObject, ...]:
    """Every object that the parameter lists, in its order, all of them checked.

    Raises:
        ClassInvalidError: the text or an entry of it is malformed, or there is no entry.
    """
    objects = tuple(_Entry(node, index).parse() for index, node in enumerate(_items(text)))
    if not objects:
        problem = "objects lists nothing, so there is nothing to read"
        raise ClassInvalidError(problem, "List at least one object, or remove the volume.")
    names = [found.name for found in objects]
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if repeated:
        raise ClassInvalidError(
            f"objectName is not unique: {', '.join(map(excerpt, repeated))}",
            "Each object becomes a file of its own; give each one its own objectName.",
        )
    if clash := path_conflict(names):
        first, second = map(excerpt, clash)
        problem = f"the objectName '{first}' is a folder in the objectName '{second}'"
        raise ClassInvalidError(problem, "Rename one of them.")
    return objects


def _items(text: str) -> tuple[YamlNode, ...]:
    try:
        root = read_yaml(text)
    except YamlError as error:
        where = f"{error.detail} (line {error.line} of objects)"
        raise ClassInvalidError(
            f"objects is not the YAML of a list: {where}", error.remedy
        ) from error
    match root:
        case YamlList(items):
            return items
        case None | YamlScalar(text="", style=ScalarStyle.PLAIN):
            return ()
        case _:
            raise ClassInvalidError(
                f"objects is not the YAML of a list (line {root.line} of objects)",
                "Write objects: | and under it one '- objectName: ...' per object; no array:.",
            )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One item of the list, its fields not yet checked."""

    node: YamlNode
    index: int

    def parse(self) -> VaultObject:
        """Everything it says."""
        name, path = self._text("objectName"), self._text("secretPath")
        key, method = self._text("secretKey"), self._text("method")
        permission, encoding = self._integer("filePermission"), self._text("encoding")
        arguments = self._arguments()
        for field_name, value in (("objectName", name), ("secretPath", path)):
            if not value:
                raise self._missing_error(field_name)
        if problem := path_problem(name):
            raise self._error(f"the objectName '{excerpt(name)}' {problem}", "Choose another one.")
        if method and not _METHOD.fullmatch(method):
            raise self._error("method is no method of HTTP", "Write GET, POST or PUT.")
        try:
            request = ReadRequest(parse_api_path(path), method.upper() or "GET", arguments)
        except ValueError as error:
            raise self._error(f"secretPath {error}", "Write it as in `vault read`.") from None
        return VaultObject(
            name=name,
            request=request,
            key=key,
            mode=permission or None,
            encoding=self._encoding(encoding),
            canonical_json=_canonical_json(
                (name, path, key, method), arguments, permission, encoding
            ),
        )

    def _field(self, name: str) -> YamlNode | None:
        match self.node:
            case YamlMap(entries):
                return entries.get(name)
            case YamlScalar(text="", style=ScalarStyle.PLAIN):
                return None
            case _:
                raise self._error("it is not a mapping", "Write lines of the form field: value.")

    def _scalar(self, name: str) -> YamlScalar | None:
        node = self._field(name)
        if node is None or isinstance(node, YamlScalar):
            return node
        raise self._error(f"{name} is a list or a mapping", "Write one value there.")

    def _text(self, name: str) -> str:
        """A text as it is written: a plain number or boolean keeps its spelling."""
        scalar = self._scalar(name)
        return scalar.text if scalar else ""

    def _integer(self, name: str) -> int:
        """A mode; 0 where it is absent or null."""
        scalar = self._scalar(name)
        if scalar is None or (not scalar.text and scalar.style is ScalarStyle.PLAIN):
            return 0
        number = parse_integer(scalar)
        if number is None or not 0 <= number <= MAX_MODE:
            raise self._error(
                f"{name} is not a mode from 0 to 0777: '{excerpt(scalar.text)}'",
                "Write it in octal, with a leading 0 and without quotes: 0640.",
            )
        return number

    def _encoding(self, text: str) -> ValueEncoding:
        try:
            return ValueEncoding(text.casefold()) if text else ValueEncoding.UTF8
        except ValueError:
            problem = f"the encoding '{excerpt(text)}' is unknown"
            raise self._error(problem, "Write utf-8, base64 or hex.") from None

    def _arguments(self) -> bytes | None:
        node = self._field("secretArgs")
        match node:
            case None | YamlScalar(text="", style=ScalarStyle.PLAIN):
                return None
            case YamlMap():
                try:
                    return write_json(typed_value(node))
                except NotJsonError:
                    problem = "secretArgs holds a number that is not finite"
                    raise self._error(problem, "JSON has no such number.") from None
            case _:
                raise self._error("secretArgs is not a mapping", "Write one argument a line.")

    def _missing_error(self, name: str) -> ClassInvalidError:
        """The error for a field that must be there, which may be there in another spelling."""
        names = self.node.entries if isinstance(self.node, YamlMap) else ()
        near = next((other for other in names if other.casefold() == name.casefold()), name)
        if near != name:
            remedy = f"Write {name} instead of {excerpt(near)}: capitals count."
        else:
            remedy = f"Set it to {_FIELD_MEANINGS[name]}."
        return self._error(f"{name} is missing", remedy)

    def _error(self, problem: str, remedy: str) -> ClassInvalidError:
        where = f"the entry at index {self.index}, line {self.node.line} of objects"
        return ClassInvalidError(f"objects: {problem} ({where})", remedy)


def _canonical_json(
    texts: tuple[str, str, str, str], arguments: bytes | None, permission: int, encoding: str
) -> bytes:
    """The entry as upstream makes the version of its content out of.

    Source: docs/reference/upstream-vault-provider.md#object-versions
    """
    keys = ("ObjectName", "SecretPath", "SecretKey", "Method")
    pairs = [f'"{key}":'.encode() + write_json(text) for key, text in zip(keys, texts, strict=True)]
    pairs += [b'"SecretArgs":' + (arguments or b"null"), f'"FilePermission":{permission}'.encode()]
    pairs += [b'"Encoding":' + write_json(encoding)]
    return b"{" + b",".join(pairs) + b"}"


# --- Which files a class for Vault makes, and by which names they may be called -------------------


def named_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    """The files that a mount of a class produces, in their order; their paths are their names.

    Args:
        parameters: of the class alone.

    Raises:
        ClassInvalidError: `objects` is malformed.
    """
    objects = parse_objects(parameters.get("objects", ""))
    return tuple(NamedFile(found.name, frozenset(), str(found)) for found in objects)
