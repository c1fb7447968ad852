"""Finds SecretProviderClasses in YAML files.

Each lookup reads the files that changed. An invalid file affects only its own
SecretProviderClasses, and an invalid field only its own SecretProviderClass.
"""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import (
    ClassInvalidError,
    ClassNotFoundError,
    RequestInvalidError,
    StoreError,
    descriptor_error,
    excerpt,
)
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.formats.kubernetes_yaml import (
    Document,
    FieldPath,
    KubernetesYamlError,
    Value,
    parse_documents,
)
from keyferry.kubernetes.class_codec import CLASS_KIND, class_not_found_error, parse_class
from keyferry.kubernetes.objects import SecretProviderClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_FILE_BYTES = 1024 * 1024
_MAX_LISTED = 10
"""How many names or problems a message lists."""


class _ClassEntry(Struct, frozen=True):
    """A SecretProviderClass of a file: its name and location, and its value or error."""

    namespace: str
    name: str
    location: str
    result: SecretProviderClass | ClassInvalidError


class _ParsedFile(Struct, frozen=True):
    """The SecretProviderClasses of a file, and its problems as a whole."""

    entries: tuple[_ClassEntry, ...] = ()
    problems: tuple[ClassInvalidError, ...] = ()
    other_kinds: tuple[str, ...] = ()


class ClassListing(Struct, frozen=True):
    """What files with SecretProviderClasses contain.

    Attributes:
        names: namespace and name of every SecretProviderClass, sorted.
        other_kinds: the kinds of other documents; "" for a document without a kind.
        problems: why files, or parts of them, cannot be read; the names may be incomplete.
    """

    names: tuple[tuple[str, str], ...]
    other_kinds: tuple[str, ...] = ()
    problems: tuple[ClassInvalidError, ...] = ()

    def choose(self, name: str | None, file: object) -> tuple[str, str]:
        """Return namespace and name of one SecretProviderClass.

        Args:
            name: `NAME` or `NAMESPACE/NAME`; None if there is only one.
            file: what was listed, for messages.

        Raises:
            ClassInvalidError: the files contain no SecretProviderClass.
            RequestInvalidError: none has this name, or several have.
        """
        matches = [(ns, each) for ns, each in self.names if name in (None, each, f"{ns}/{each}")]
        if len(matches) == 1:
            return matches[0]
        if not matches and self.problems:
            raise _join_problems(self.problems)
        listed = _join_limited(f"{ns}/{each}" for ns, each in self.names)
        if not self.names:
            raise self._none_error(file)
        if not matches:
            raise RequestInvalidError(
                f"there is no SecretProviderClass {name!r} in {file}", f"It contains: {listed}."
            )
        raise RequestInvalidError(
            f"{file} contains {len(matches)} SecretProviderClasses: {listed}",
            "Choose one with --class NAME or --class NAMESPACE/NAME.",
        )

    def _none_error(self, file: object) -> ClassInvalidError:
        problem = f"there is no {CLASS_KIND} in {file}"
        shown = [excerpt(kind) or "a document without a kind" for kind in self.other_kinds]
        if shown:
            problem += f", only: {_join_limited(shown)}"
        meant = [
            kind
            for kind in self.other_kinds
            if difflib.get_close_matches(kind.lower(), [CLASS_KIND.lower()], cutoff=0.8)
        ]
        if meant:
            return ClassInvalidError(problem, f"Did you mean kind: {CLASS_KIND}?")
        return ClassInvalidError(
            problem, "Use a file that contains one; `keyferry demo` shows an example."
        )


_Fingerprint = tuple[int, int, int]


class ClassFiles:
    """Finds SecretProviderClasses in a YAML file, or in the `*.yaml` and `*.yml` files of a folder.

    Calls may come from any thread.

    Args:
        path: the file or the folder.
        default_namespace: of SecretProviderClasses without one.
        content: what was read from standard input in place of `path`; None to read `path`.
    """

    def __init__(self, path: Path, *, default_namespace: str, content: bytes | None = None) -> None:
        self._path = path if content is None else Path("standard input")
        self._default_namespace = default_namespace
        self._cache: dict[Path, tuple[_Fingerprint, _ParsedFile]] = {}
        self._content = None if content is None else self._parse(self._path, content)

    def find(self, namespace: str, name: str) -> SecretProviderClass:
        """Return a SecretProviderClass.

        Raises:
            ClassNotFoundError: no file contains it.
            ClassInvalidError: a field has the wrong type, the class is defined twice, or an invalid
                file could contain it.
            StoreError: the files cannot be listed, or this process can open no further file.
        """
        files = [self._load(path) for path in self._paths()]
        entries = [entry for file in files for entry in file.entries]
        matches = [e for e in entries if (e.namespace, e.name) == (namespace, name)]
        match matches:
            case [_ClassEntry(result=SecretProviderClass() as spc)]:
                return spc
            case [_ClassEntry(result=ClassInvalidError() as error)]:
                # A new error for each call, so that no two callers share a traceback.
                raise ClassInvalidError(error.problem, error.remedy)
            case []:
                problems = [problem for file in files for problem in file.problems]
                raise self._not_found_error(namespace, name, entries, problems)
            case _:
                places = _join_limited(entry.location for entry in matches)
                raise ClassInvalidError(
                    f"{CLASS_KIND} {namespace}/{name} is defined {len(matches)} times: {places}",
                    "Keep one of them.",
                )

    def listing(self) -> ClassListing:
        """Return what the files contain.

        Raises:
            StoreError: the files cannot be listed, or this process can open no further file.
        """
        files = [self._load(path) for path in self._paths()]
        return ClassListing(
            names=tuple(sorted({(e.namespace, e.name) for file in files for e in file.entries})),
            other_kinds=tuple(dict.fromkeys(kind for file in files for kind in file.other_kinds)),
            problems=tuple(problem for file in files for problem in file.problems),
        )

    def _paths(self) -> list[Path]:
        """Return the files to read, sorted. Hidden files are skipped; editors create them."""
        if self._content is not None:
            return [self._path]
        try:
            if not stat.S_ISDIR(self._path.stat().st_mode):
                return [self._path]
            return sorted(
                path
                for path in self._path.iterdir()
                if path.suffix in {".yaml", ".yml"} and path.name[0] != "." and path.is_file()
            )
        except OSError as error:
            raise StoreError(
                f"the files in {self._path} cannot be listed: {error.strerror}",
                "Give a file or a directory of manifests that this process may read.",
            ) from error

    def _load(self, path: Path) -> _ParsedFile:
        if self._content is not None:
            return self._content
        try:
            with path.open("rb") as stream:
                fingerprint = _fingerprint(os.fstat(stream.fileno()))
                seen, file = self._cache.get(path, (None, _ParsedFile()))
                if seen == fingerprint:
                    return file
                text = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            problem, remedy = f"{path} cannot be read: {error.strerror}", "Check its permissions."
            if descriptor_error(error) is not None:  # nothing is wrong with the file
                raise StoreError(problem, remedy) from error
            return _ParsedFile(problems=(ClassInvalidError(problem, remedy),))
        file = self._parse(path, text)
        self._cache[path] = (fingerprint, file)
        return file

    def _parse(self, path: Path, text: bytes) -> _ParsedFile:
        entries, problems = [], []
        try:
            documents = parse_documents(text, max_bytes=MAX_FILE_BYTES)
        except KubernetesYamlError as error:
            return _ParsedFile(problems=(ClassInvalidError(f"{path} {error}", error.remedy),))
        for document in documents:
            for manifest, base in _classes_in(document):
                try:
                    entries.append(self._parse_entry(path, document, manifest, base))
                except ClassInvalidError as error:
                    problems.append(error)
        kinds = tuple(kind for document in documents for kind in _other_kinds(document.value))
        return _ParsedFile(tuple(entries), tuple(problems), kinds)

    def _parse_entry(
        self, path: Path, document: Document, manifest: Value, base: FieldPath
    ) -> _ClassEntry:
        """Parse the SecretProviderClass `manifest` at the path `base` of `document`.

        Raises:
            ClassInvalidError: even its name cannot be read.
        """

        def place(field: FieldPath) -> str:
            return f"{path} line {document.line_of(base + field)}: "

        result: SecretProviderClass | ClassInvalidError
        try:
            result = parse_class(
                manifest,
                default_namespace=self._default_namespace,
                locate=place,
                spelling=lambda field: document.text_of(base + field),
            )
            namespace, name = result.namespace, result.name
        except ClassInvalidError as error:
            result = error
            metadata = Field(manifest)["metadata"]
            try:
                namespace, name = metadata["namespace"].text(), metadata["name"].text()
            except FieldTypeError:
                raise error from None
            namespace = namespace or self._default_namespace
        return _ClassEntry(namespace, name, place(()).removesuffix(": "), result)

    def _not_found_error(
        self,
        namespace: str,
        name: str,
        entries: list[_ClassEntry],
        problems: list[ClassInvalidError],
    ) -> ClassNotFoundError | ClassInvalidError:
        prefix = f"failed to get secretproviderclass {namespace}/{name}: "
        if problems:
            joined = _join_problems(problems)
            problem = f"{prefix}{joined.problem}, and no other file contains it"
            return ClassInvalidError(
                problem,
                f"{joined.remedy} This matters if the file is to contain the SecretProviderClass.",
            )
        elsewhere = sorted({entry.namespace for entry in entries if entry.name == name})
        here = sorted({entry.name for entry in entries if entry.namespace == namespace})
        if elsewhere:
            remedy = (
                f"A {CLASS_KIND} of that name is in namespace {_join_limited(elsewhere)}; "
                "it must be in the namespace of the pod."
            )
        elif here:
            remedy = f"In {self._path}, namespace {namespace} has: {_join_limited(here)}."
        else:
            remedy = f"In {self._path}, namespace {namespace} has no {CLASS_KIND} at all."
        return class_not_found_error(namespace, name, remedy)


def _classes_in(document: Document) -> Iterator[tuple[Value, FieldPath]]:
    """Yield the SecretProviderClasses of `document` with their paths; skip other kinds."""
    match document.value:
        case {"kind": str(kind)} if kind == CLASS_KIND:
            yield document.value, ()
        case {"kind": str(kind), "items": list(items)} if kind in {"List", f"{CLASS_KIND}List"}:
            for at, item in enumerate(items):
                match item:
                    case {"kind": str(inner)} if inner == CLASS_KIND:
                        yield item, ("items", at)
                    case _:
                        pass
        case _:
            pass


def _other_kinds(value: Value) -> Iterator[str]:
    """Yield the kinds of manifests that are not SecretProviderClasses."""
    match value:
        case None:
            pass
        case {"kind": str(kind), "items": list(items)} if kind in {"List", f"{CLASS_KIND}List"}:
            for item in items:
                yield from _other_kinds(item)
        case {"kind": str(kind)}:
            if kind != CLASS_KIND:
                yield kind
        case _:
            yield ""


def _fingerprint(status: os.stat_result) -> _Fingerprint:
    if stat.S_ISREG(status.st_mode):
        return status.st_mtime_ns, status.st_size, status.st_ino
    # A pipe, as in `mount <(envsubst < spc.yaml)`, can be read only once.
    return 0, 0, status.st_ino


def _join_problems(problems: Sequence[ClassInvalidError]) -> ClassInvalidError:
    """Return one error for problems of files; with several, each remedy follows its problem."""
    if len(problems) == 1:
        return ClassInvalidError(problems[0].problem, problems[0].remedy)
    listed = _join_limited(str(problem).rstrip(".") for problem in problems)
    return ClassInvalidError(listed, "Correct these lines.")


def _join_limited(texts: Iterable[str]) -> str:
    listed = list(texts)
    if len(listed) > _MAX_LISTED:
        listed[_MAX_LISTED:] = [f"{len(listed) - _MAX_LISTED} more"]
    return ", ".join(listed)
