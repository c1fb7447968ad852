"""Values inside of JSON and YAML, as files of their own: `jmesPath` and `expandKeys`. [pure]

Texts are delivered as they are, other values as compact JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from keyferry.content import DEFAULT_MAX_BYTES, SIZE_REMEDY
from keyferry.errors import ObjectUnusableError, excerpt
from keyferry.formats.go_json import NotJsonError, TooManyValuesError, text_bytes
from keyferry.formats.volume_paths import path_problem
from keyferry.formats.yaml_text import YamlError
from keyferry.rendering.spelled_json import (
    MAX_VALUES,
    BadJsonError,
    NotFiniteError,
    Spelled,
    kind_of,
    read_spelled_json,
    read_spelled_yaml,
    write_spelled,
)

MAX_KEYS = 1000
"""Keys that one object is expanded to."""
MAX_JSON_BYTES = 1024 * 1024
"""Bytes of a list or an object that becomes a file."""


@dataclass(frozen=True, slots=True)
class ExtractionRequest:
    """What to extract from one value.

    Attributes:
        value: the value.
        expressions: JMESPath expressions.
        expands: whether each top-level key is wanted.
        is_yaml: whether the value is YAML; otherwise it is JSON.
    """

    value: bytes = field(repr=False)
    expressions: tuple[str, ...] = ()
    expands: bool = False
    is_yaml: bool = False


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found.

    Attributes:
        values: of each expression.
        keys: the top-level keys with their values.
        problem: why nothing could be extracted; "" after success.
        remedy: what to do about it.
    """

    values: tuple[bytes, ...] = field(default=(), repr=False)
    keys: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    problem: str = ""
    remedy: str = ""

    @property
    def size(self) -> int:
        """Bytes of all results."""
        return sum(map(len, self.values)) + sum(len(value) for _, value in self.keys)


class ExtractionBatch(Struct, frozen=True):
    """Several values, for one parse job.

    Attributes:
        items: the values.
        max_bytes: of all results together; one that exceeds it is a `problem`.
    """

    items: tuple[ExtractionRequest, ...]
    max_bytes: int = DEFAULT_MAX_BYTES


class ExtractedBatch(Struct, frozen=True):
    """What was found in several values, in their order."""

    items: tuple[Extracted, ...]


def extract_batch(batch: ExtractionBatch) -> ExtractedBatch:
    """Return what `extract` finds; a failure is the `problem` of its item."""
    room = batch.max_bytes
    done: list[Extracted] = []
    for request in batch.items:
        try:
            found = extract(request, max_bytes=room)
        except ObjectUnusableError as error:
            found = Extracted(problem=error.problem, remedy=error.remedy)
        room -= found.size
        done.append(found)
    return ExtractedBatch(tuple(done))


def extract(request: ExtractionRequest, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Extracted:
    """Return the wanted parts of a value: texts as they are, others as compact JSON.

    Args:
        request: the value, and what to extract.
        max_bytes: of all parts together.

    Raises:
        ClassInvalidError: an expression is not JMESPath.
        ObjectUnusableError: the value is not JSON or YAML, or does not have a part, or the parts
            are too large. The message names keys, but no value.
    """
    root = _read(request)
    try:
        return _extracted(root, request, max_bytes)
    except ObjectUnusableError:
        if not (request.is_yaml and _may_be_plain(request.value)):
            raise
    raise ObjectUnusableError(
        "the value is one line, in which jmesPath or expandKeys does not find what it selects; "
        "nothing of it is shown, because it may be a password that looks like YAML",
        "Correct the path of jmesPath, or remove jmesPath, expandKeys and yaml for a plain value.",
    )


def _may_be_plain(value: bytes) -> bool:
    """Return whether a value that is YAML may be a password, of which a key would be a part.

    `pass:` and `pass: word` are mappings of YAML. Nobody stores a password of several lines that
    are a mapping, nor one in braces whose inside is one.
    """
    text = value.strip()
    return b"\n" not in text and not text.startswith(b"{")


def _extracted(root: Spelled, request: ExtractionRequest, max_bytes: int) -> Extracted:
    collected = _Collected(max_bytes)
    if request.expands:
        _expand(root, collected, is_yaml=request.is_yaml)
    if request.expressions:
        # Imported on use: most SecretProviderClasses have no expression.
        from keyferry.rendering.jmes_expression import Searcher

        searcher = Searcher(root)
        for each in request.expressions:
            collected.add_value(searcher.search(each), f"jmesPath '{excerpt(each)}'")
    return Extracted(tuple(collected.values), tuple(collected.keys))


class _Collected:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._room = max_bytes
        self.values: list[bytes] = []
        self.keys: list[tuple[str, bytes]] = []

    def add_value(self, value: Spelled, about: str) -> None:
        self.values.append(self._counted(_contents(value, about)))

    def add_key(self, key: str, value: Spelled) -> None:
        self.keys.append((key, self._counted(_contents(value, f"key '{excerpt(key)}'"))))

    def _counted(self, contents: bytes) -> bytes:
        self._room -= len(contents)
        if self._room < 0:
            raise ObjectUnusableError(
                f"the files of jmesPath and expandKeys have more than {self._max_bytes} bytes, "
                "which is what --max-call-recv-msg-size leaves for them",
                SIZE_REMEDY,
            )
        return contents


def check_expression(expression: str) -> None:
    """Check that an expression can be used.

    Raises:
        ClassInvalidError: it is not JMESPath, or could take too long.
    """
    from keyferry.rendering.jmes_expression import parse_expression

    parse_expression(expression)


def _read(request: ExtractionRequest) -> Spelled:
    kind = "YAML" if request.is_yaml else "JSON"
    try:
        if request.is_yaml:
            return read_spelled_yaml(request.value)
        return read_spelled_json(request.value)
    except TooManyValuesError:
        raise ObjectUnusableError(
            f"the value has more than {MAX_VALUES} {kind} values",
            "Store it as several objects.",
        ) from None
    except YamlError as error:
        raise ObjectUnusableError(
            f"the value is not YAML: {error.detail.removeprefix('not YAML: ')}"
            f" (line {error.line} of the value)",
            "Correct the value in the vault, or remove jmesPath and expandKeys.",
        ) from None
    except BadJsonError as error:
        raise ObjectUnusableError(
            f"the value is not {kind}: {error.detail}",
            "If it is YAML, set yaml: true. Otherwise correct the value in the vault, or remove "
            "jmesPath and expandKeys."
            if error.is_syntax
            else "Correct the value in the vault, or remove jmesPath and expandKeys.",
        ) from None


def _expand(root: Spelled, collected: _Collected, *, is_yaml: bool) -> None:
    if not isinstance(root, dict):
        kind = "YAML" if is_yaml else "JSON"
        raise ObjectUnusableError(
            f"the value is {kind_of(root)} in {kind}; expandKeys needs an object, which has keys",
            "Store an object, or select values with jmesPath.",
        )
    if len(root) > MAX_KEYS:
        raise ObjectUnusableError(
            f"the value has {len(root)} keys; expandKeys makes at most {MAX_KEYS} files",
            "Select values with jmesPath.",
        )
    for key, value in root.items():
        problem = path_problem(key) or ("has a '/'" if "/" in key else "")
        if problem:
            raise ObjectUnusableError(
                f"the key '{excerpt(key)}' cannot be the name of a file: it {problem}",
                "Select the values with jmesPath, which names the files.",
            )
        if value is None:
            raise ObjectUnusableError(
                f"the value of the key '{excerpt(key)}' is null, and a file cannot show that",
                "Remove the key in the vault, or select the other values with jmesPath.",
            )
        collected.add_key(key, value)


def _contents(value: Spelled, about: str) -> bytes:
    if isinstance(value, str):
        return text_bytes(value)
    try:
        return write_spelled(value, max_bytes=MAX_JSON_BYTES)
    except NotFiniteError:
        raise ObjectUnusableError(
            f"{about} is a number that JSON cannot represent", "Select another value."
        ) from None
    except NotJsonError:
        raise ObjectUnusableError(
            f"{about} has more than {MAX_JSON_BYTES} bytes", "Select a smaller part."
        ) from None
