"""Checks SecretSyncs, one by one, against each other and against SecretProviderClasses."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, excerpt
from keyferry.formats.fields import format_path
from keyferry.kubernetes.syncs.fields import CREDENTIALS_SECRET
from keyferry.kubernetes.syncs.groups import SYNC_KIND
from keyferry.lint.class_content import assumed_content, content_of
from keyferry.lint.field_places import field_place, parse_path
from keyferry.lint.finding import finding
from keyferry.lint.upstream_syncs import sync_differences
from keyferry.providers.registry import check_without_pod, needs_credentials
from keyferry.records import replace
from keyferry.secrets.builder import Definition, choose_files
from keyferry.secrets.secret_data import check_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.formats.kubernetes_yaml import FieldPath
    from keyferry.kubernetes.objects import SecretObject
    from keyferry.lint.class_content import ClassContent
    from keyferry.lint.finding import Finding
    from keyferry.lint.manifests import LintedClass, LintedSync, Manifests

_FIELD = re.compile(r"spec\.[\w.\[\]]+\w\]?")
_OWN_ANNOTATION = re.compile(r"\bkeyferry\.dev/[\w-]+")
_ANNOTATIONS: FieldPath = ("metadata", "annotations")
_CLASS_NAME: FieldPath = ("spec", "secretProviderClassName")
_DATA: FieldPath = ("spec", "secretObject", "data")
_WITHOUT_KEYS = "Opaque"


def check_syncs(manifests: Manifests) -> Iterator[Finding]:
    """Yield what is wrong with SecretSyncs, in their order."""
    yield from _duplicates(manifests.syncs)
    for linted in manifests.syncs:
        here = {
            each.spc.name: each
            for each in manifests.classes
            if each.spc.namespace == linted.sync.ref.namespace
        }
        yield from _SyncCheck(linted, here, knows_classes=manifests.knows_classes).findings()


class _SyncCheck:
    """The check of one SecretSync.

    Args:
        linted: the SecretSync.
        classes: the SecretProviderClasses of its namespace, by name.
        knows_classes: see `Manifests`.
    """

    def __init__(
        self, linted: LintedSync, classes: dict[str, LintedClass], *, knows_classes: bool
    ) -> None:
        self._linted = linted
        self._sync = linted.sync
        self._classes = classes
        self._knows_classes = knows_classes
        self._finds_sources = True
        """Whether each sourcePath is a file, or not known."""

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        manifest, sync = self._linted.manifest, self._sync
        for field in sync.unknown_fields:
            place = field_place(manifest, field)
            yield finding("unknown-field", place, manifest.subject, str(field))
        for text in sync.options.problems:
            problem, _, remedy = text.rpartition(". ")
            found = _OWN_ANNOTATION.search(problem)
            path = (*_ANNOTATIONS, *([found[0]] if found else ()))
            problem = problem[:1].lower() + problem[1:]
            yield self._finding("sync-annotation", path, problem, remedy)
        if sync.invalid is not None:
            path = _invalid_path(sync.invalid.problem)
            yield self._finding("sync", path, sync.invalid.problem, sync.invalid.remedy)
        else:
            yield from self._content()
        yield from self._class()
        yield from self._claims()
        yield from self._upstream()

    def _class(self) -> Iterator[Finding]:
        """Yield what is wrong with the SecretProviderClass for a SecretSync."""
        sync = self._sync
        linted = self._classes.get(sync.class_name)
        if linted is None:
            if sync.class_name and self._knows_classes:
                close = difflib.get_close_matches(sync.class_name, self._classes, n=1)
                question = f"Did you mean {close[0]}? " if close else ""
                yield self._finding(
                    "class-not-found",
                    _CLASS_NAME,
                    f"SecretProviderClass {excerpt(sync.class_name)} was not found in namespace"
                    f" {sync.ref.namespace}",
                    f"{question}It must be in the namespace of the SecretSync.",
                )
            return
        try:
            check_without_pod(linted.spc)
        except AuthorError as error:
            problem = f"SecretProviderClass {linted.spc.name}: {error.problem}"
            yield self._finding("sync-identity", _CLASS_NAME, problem, error.remedy)
        if needs_credentials(linted.spc) and not sync.options.credentials_secret:
            yield self._finding(
                "sync-identity",
                _ANNOTATIONS,
                f"the identity mode of SecretProviderClass {linted.spc.name} needs credentials, and"
                " the SecretSync names no Secret with them",
                f"Set the annotation {CREDENTIALS_SECRET}, or use an identity mode with"
                " service-account tokens.",
            )

    def _content(self) -> Iterator[Finding]:
        """Yield why the Secret could not be made from the files that a mount may produce."""
        secret = self._sync.secret_object
        content = self._known_content()
        known = content or assumed_content(item.object_name for item in secret.data)
        if content is not None:
            for at, item in enumerate(secret.data):
                one = replace(secret, type=_WITHOUT_KEYS, data=(item,))
                for found in self._choice(one, content, (*_DATA, at, "sourcePath")):
                    self._finds_sources = False
                    yield found
        if self._finds_sources:
            yield from self._choice(secret, known, ("spec", "secretObject", "type"))

    def _known_content(self) -> ClassContent | None:
        linted = self._classes.get(self._sync.class_name)
        if linted is None:
            return None
        return content_of(linted.spc, [item.object_name for item in self._sync.secret_object.data])

    def _choice(
        self, secret: SecretObject, content: ClassContent, path: FieldPath
    ) -> Iterator[Finding]:
        """Choose files as the controller does."""
        try:
            choose_files(
                secret, content.files, content.named_files, definition=Definition.SECRET_SYNC
            )
            check_keys(secret.type, [item.key for item in secret.data])
        except AuthorError as error:
            yield self._finding("sync-source", path, error.problem, error.remedy)

    def _claims(self) -> Iterator[Finding]:
        for linted in self._classes.values():
            if self._sync.ref.name in linted.spc.secret_names:
                yield self._finding(
                    "claimed-secret",
                    ("metadata", "name"),
                    f"secret {self._sync.ref.name} is also made by secretObjects of"
                    f" {linted.manifest.subject} in {linted.manifest.place()}",
                    "Remove it from secretObjects, or give the SecretSync another name.",
                )

    def _upstream(self) -> Iterator[Finding]:
        content = self._known_content()
        paths = {file.path for file in content.files} if content and self._finds_sources else None
        for path, effect in sync_differences(self._sync, paths):
            yield self._finding(
                "upstream", path, f"{_written(path)}: upstream's controller {effect}"
            )

    def _finding(self, rule: str, path: FieldPath, problem: str, remedy: str = "") -> Finding:
        manifest = self._linted.manifest
        return finding(rule, manifest.place(*path), manifest.subject, problem, remedy)


def _invalid_path(problem: str) -> FieldPath:
    """Return the path of the field that a problem names."""
    if found := _FIELD.match(problem):
        return parse_path(found[0])
    annotation = _OWN_ANNOTATION.search(problem)
    return (*_ANNOTATIONS, annotation[0]) if annotation else ("spec",)


def _written(path: FieldPath) -> str:
    if path[: len(_ANNOTATIONS)] == _ANNOTATIONS:
        return f"annotation {path[-1]}"
    return format_path(path)


def _duplicates(syncs: Sequence[LintedSync]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], LintedSync] = {}
    for linted in syncs:
        ref = linted.sync.ref
        first = seen.setdefault((ref.namespace, ref.name), linted)
        if first is linted:
            continue
        is_same = first.sync.ref.group == ref.group
        yield finding(
            "duplicate-sync",
            linted.manifest.place(),
            linted.manifest.subject,
            f"it is also defined in {first.manifest.place()}"
            if is_same
            else f"secret {ref.name} is also made by the {SYNC_KIND} of {first.sync.ref.group} in"
            f" {first.manifest.place()}",
            "Keep one of them: the last one that is applied wins."
            if is_same
            else "Keep one of them: the first one that is synced keeps the Secret.",
        )
