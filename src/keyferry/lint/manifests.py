"""Reads what `keyferry lint` checks: SecretProviderClasses, SecretSyncs, and pods of any kind."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.fields import FieldTypeError, text
from keyferry.formats.kubernetes_yaml import KubernetesYamlError, parse_documents
from keyferry.kubernetes.class_codec import CLASS_KIND, parse_class
from keyferry.kubernetes.files.class_files import MAX_FILE_BYTES
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.syncs.groups import GKE_GROUP, SYNC_KIND, UPSTREAM_GROUP
from keyferry.kubernetes.syncs.sync_errors import SyncInvalidError
from keyferry.lint.finding import Finding, Place, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.formats.kubernetes_yaml import Document, FieldPath, Value
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync

_POD_PATHS: dict[str, FieldPath] = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"),
        ("spec", "template", "spec"),
    ),
}
"""Where the spec of a pod is, by kind."""
_SYNC_GROUPS = (UPSTREAM_GROUP, GKE_GROUP)
_NO_UID = "none"
_PARAMETER_LINE = re.compile(r"\bline (\d+) of (\w+)")


class Source(Protocol):
    """Where the fields of an object are written: a document of a file, or a cluster."""

    def line_of(self, path: FieldPath, /) -> int:
        """Return the line, from 1, of a field or its last existing parent; 0 in a cluster."""

    def text_of(self, path: FieldPath, /) -> str:
        """Return a scalar as it is written; "" if that is not known."""


class Manifest(Struct, frozen=True):
    """One object of a file or of a cluster.

    Attributes:
        file: the path of the file, see `Place`.
        document: of the file.
        base: the path of the object in the document.
        kind: of the object.
        namespace: of the object; the default if it names none.
        name: of the object; may be "".
        value: the object.
    """

    file: str
    document: Source
    base: FieldPath
    kind: str
    namespace: str
    name: str
    value: Value

    @property
    def subject(self) -> str:
        """Kind, namespace and name, for messages."""
        return f"{self.kind} {self.namespace}/{self.name or '(without a name)'}"

    def place(self, *path: str | int) -> Place:
        """Return where the field at `path` is, or its last existing parent."""
        return Place(self.file, self.document.line_of((*self.base, *path)))

    def text(self, *path: str | int) -> str:
        """Return the scalar at `path` as it is written; "" without one."""
        return self.document.text_of((*self.base, *path))


class LintedClass(Struct, frozen=True):
    """A SecretProviderClass and where it is."""

    manifest: Manifest
    spc: SecretProviderClass

    def place_of(self, message: str) -> Place:
        """Return where the parameter is that an error is about, else `spec.parameters`.

        Args:
            message: of the error. It names the line of a parameter, as in `line 3 of objects`, or
                the parameter, or its value.
        """
        parameters = self.spc.parameters
        found = _PARAMETER_LINE.search(message)
        if found and found[2] in parameters:
            start = self.manifest.place("spec", "parameters", found[2])
            return start.below(int(found[1]))
        names = {name.casefold(): name for name in parameters}
        words = re.sub(r"[\s:,'\"]+", " ", message).casefold().split()
        named = next((names[word] for word in words if word in names), None)
        quoted = (name for name, text in parameters.items() if text.strip() in words)
        named = named or next(quoted, None)
        return self.manifest.place("spec", "parameters", *([named] if named else ()))


class LintedSync(Struct, frozen=True):
    """A SecretSync and where it is."""

    manifest: Manifest
    sync: SecretSync


class LintedPod(Struct, frozen=True):
    """A pod, or the template of pods, and where it is.

    Attributes:
        manifest: the object.
        path: of the spec of the pod in it.
        spec: the spec of the pod.
    """

    manifest: Manifest
    path: FieldPath
    spec: dict[str, Value]


class Manifests(Struct, frozen=True):
    """What was read.

    Attributes:
        classes: the SecretProviderClasses that can be parsed.
        pods: the pods.
        syncs: the SecretSyncs that can be parsed.
        findings: what cannot be read or parsed.
        secrets: namespaces and names of Secrets that other manifests make.
        is_complete: whether a SecretProviderClass that is not here does not exist; of a cluster.
    """

    classes: tuple[LintedClass, ...] = ()
    pods: tuple[LintedPod, ...] = ()
    syncs: tuple[LintedSync, ...] = ()
    findings: tuple[Finding, ...] = ()
    secrets: frozenset[tuple[str, str]] = frozenset()
    is_complete: bool = False

    def __add__(self, other: Manifests) -> Manifests:
        """Return the contents of both."""
        return Manifests(
            self.classes + other.classes,
            self.pods + other.pods,
            self.syncs + other.syncs,
            self.findings + other.findings,
            self.secrets | other.secrets,
            self.is_complete or other.is_complete,
        )

    @property
    def knows_classes(self) -> bool:
        """Whether a SecretProviderClass that is not here is worth a finding."""
        return self.is_complete or bool(self.classes)

    @property
    def count(self) -> int:
        """The number of objects that can be checked."""
        return len(self.classes) + len(self.pods) + len(self.syncs)


def read_manifests(file: str, text: bytes, *, default_namespace: str = "default") -> Manifests:
    """Read the manifests of one file.

    Args:
        file: its name, for messages.
        text: its content.
        default_namespace: of objects without one.
    """
    try:
        documents = parse_documents(text, max_bytes=MAX_FILE_BYTES)
    except KubernetesYamlError as error:
        place = Place(file, error.line or 1)
        return Manifests(findings=(finding("file", place, "", error.problem, error.remedy),))
    result = Manifests()
    for document in documents:
        for manifest in _objects(file, document, document.value, (), default_namespace):
            result += parse_manifest(manifest)
    return result


def _objects(
    file: str, document: Document, value: Value, base: FieldPath, namespace: str
) -> Iterator[Manifest]:
    if not isinstance(value, dict):
        return
    kind, items = value.get("kind"), value.get("items")
    if isinstance(items, list) and isinstance(kind, str) and kind.endswith("List"):
        for index, item in enumerate(items):
            yield from _objects(file, document, item, (*base, "items", index), namespace)
        return
    metadata = value.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    yield Manifest(
        file,
        document,
        base,
        text(kind),
        text(named.get("namespace")) or namespace,
        text(named.get("name")) or text(named.get("generateName")),
        value,
    )


def parse_manifest(manifest: Manifest) -> Manifests:
    """Return the object, or what is wrong with it; nothing for an object of another kind."""
    if manifest.kind == CLASS_KIND:
        return _read_class(manifest)
    if manifest.kind == SYNC_KIND:
        return _read_sync(manifest)
    path = _POD_PATHS.get(manifest.kind)
    if path is None:
        name = _other_secret(manifest)
        return Manifests(secrets=frozenset({(manifest.namespace, name)} if name else ()))
    spec: Value = manifest.value
    for step in path:
        spec = spec.get(str(step)) if isinstance(spec, dict) else None
    return (
        Manifests(pods=(LintedPod(manifest, path, spec),))
        if isinstance(spec, dict)
        else Manifests()
    )


def _other_secret(manifest: Manifest) -> str:
    """Return the name of the Secret that an object of another kind makes; "" if none is known."""
    value = manifest.value if isinstance(manifest.value, dict) else {}
    spec = value.get("spec")
    fields = spec if isinstance(spec, dict) else {}
    match manifest.kind:
        case "Secret" | "SealedSecret":
            return manifest.name
        case "ExternalSecret":
            target = fields.get("target")
            return (text(target.get("name")) if isinstance(target, dict) else "") or manifest.name
        case "Certificate":
            return text(fields.get("secretName"))
        case _:
            return ""


def _read_class(manifest: Manifest) -> Manifests:
    try:
        spc = parse_class(
            manifest.value,
            default_namespace=manifest.namespace,
            spelling=lambda path: manifest.text(*path),
        )
    except ClassInvalidError as error:
        cause = error.__cause__
        path = cause.path if isinstance(cause, FieldTypeError) else ()
        problem = error.problem.removeprefix(f"{manifest.subject}: ").removeprefix(
            f"{CLASS_KIND}: "
        )
        found = finding("class", manifest.place(*path), manifest.subject, problem, error.remedy)
        return Manifests(findings=(found,))
    return Manifests(classes=(LintedClass(manifest, spc),))


def _read_sync(manifest: Manifest) -> Manifests:
    """Read a SecretSync; nothing if a kind of the same name in another API group is meant."""

    def failed(place: Place, problem: str, remedy: str) -> Manifests:
        return Manifests(findings=(finding("sync", place, manifest.subject, problem, remedy),))

    value = manifest.value if isinstance(manifest.value, dict) else {}
    written = text(value.get("apiVersion"))
    group = next((each for each in _SYNC_GROUPS if str(each) == written), None)
    if group is None:
        if written and not difflib.get_close_matches(written, map(str, _SYNC_GROUPS), cutoff=0.8):
            return Manifests()
        problem = (
            f"apiVersion {excerpt(written)!r} is not supported"
            if written
            else ("apiVersion is not set")
        )
        remedy = f"Write apiVersion: {UPSTREAM_GROUP}."
        return failed(manifest.place("apiVersion"), problem, remedy)
    metadata = value.get("metadata")
    if not manifest.name:
        return failed(manifest.place("metadata"), "metadata.name is empty", "Set metadata.name.")
    if invalid := object_name_problem(manifest.name):
        place = manifest.place("metadata", "name")
        return failed(place, f"metadata.name {invalid}", "Choose a valid Kubernetes name.")
    # What only the API server sets.
    named = {
        **(metadata if isinstance(metadata, dict) else {}),
        "name": manifest.name,
        "namespace": manifest.namespace,
        "uid": _NO_UID,
    }
    # Imported on use: few files have SecretSyncs.
    from keyferry.kubernetes.syncs.codec import parse_sync

    try:
        sync = parse_sync(
            {**value, "metadata": named}, group, spelling=lambda path: manifest.text(*path)
        )
    except SyncInvalidError as error:
        cause = error.__cause__
        path = cause.path if isinstance(cause, FieldTypeError) else ()
        problem = error.problem.removeprefix(f"{SYNC_KIND}: ")
        return failed(manifest.place(*path), problem, error.remedy)
    return Manifests(syncs=(LintedSync(manifest, sync),))
