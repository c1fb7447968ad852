"""Checks pods, and templates of pods, against SecretProviderClasses and SecretSyncs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, excerpt
from keyferry.formats.unknown_fields import FieldTable
from keyferry.lint.finding import finding
from keyferry.lint.variables import variables_of
from keyferry.providers.api import SPC_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.formats.kubernetes_yaml import FieldPath, Value
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.lint.finding import Finding, Place
    from keyferry.lint.manifests import LintedPod, Manifests

DRIVER_NAME = "secrets-store.csi.k8s.io"
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_ATTRIBUTES = FieldTable((SPC_ATTRIBUTE,), synonyms={"spc": SPC_ATTRIBUTE})


def check_pods(manifests: Manifests) -> Iterator[Finding]:
    """Yield what is wrong with pods, in their order."""
    for pod in manifests.pods:
        here = {
            linted.spc.name: linted.spc
            for linted in manifests.classes
            if linted.spc.namespace == pod.manifest.namespace
        }
        synced = [
            linted.sync
            for linted in manifests.syncs
            if linted.sync.ref.namespace == pod.manifest.namespace
        ]
        yield from _PodCheck(pod, here, synced, knows_classes=manifests.knows_classes).findings()


class _PodCheck:
    """The check of one pod.

    Args:
        pod: the pod.
        classes: the SecretProviderClasses of its namespace, by name.
        syncs: the SecretSyncs of its namespace.
        knows_classes: see `Manifests`.
    """

    def __init__(
        self,
        pod: LintedPod,
        classes: dict[str, SecretProviderClass],
        syncs: Sequence[SecretSync],
        *,
        knows_classes: bool,
    ) -> None:
        self._pod = pod
        self._classes = classes
        self._syncs = syncs
        self._knows_classes = knows_classes
        self._mounted: set[str] = set()
        """The names of the SecretProviderClasses that the pod mounts."""

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        volumes: dict[str, Value] = {}
        csi: set[str] = set()
        for index, volume in enumerate(_items(self._pod.spec.get("volumes"))):
            name = _text(_get(volume, "name"))
            volumes[name] = volume
            if _get(volume, "csi", "driver") == DRIVER_NAME:
                csi.add(name)
                yield from self._volume(("volumes", index, "csi"), name, _get(volume, "csi"))
        for index, volume in enumerate(_items(self._pod.spec.get("volumes"))):
            yield from self._secret_volume(("volumes", index), volume)
        for kind in _CONTAINERS:
            for index, container in enumerate(_items(self._pod.spec.get(kind))):
                path = (kind, index)
                yield from self._mounts(path, container, csi)
                yield from self._variables(path, container, volumes)

    def _volume(self, path: FieldPath, name: str, csi: Value) -> Iterator[Finding]:
        if _get(csi, "readOnly") is not True:
            yield self._finding(
                "volume",
                path,
                f"volume {excerpt(name)} is not read-only, which the driver refuses",
                "Set readOnly: true in the csi volume.",
            )
        attributes = _get(csi, "volumeAttributes")
        given = attributes if isinstance(attributes, dict) else {}
        class_name = _text(given.get(SPC_ATTRIBUTE))
        if not class_name:
            written = _ATTRIBUTES.misspelling_of((SPC_ATTRIBUTE,), given)
            note = f"; you wrote {excerpt(written[0])}" if written else ""
            yield self._finding(
                "volume",
                (*path, "volumeAttributes"),
                f"volume {excerpt(name)} names no SecretProviderClass{note}",
                f"Set volumeAttributes.{SPC_ATTRIBUTE}.",
            )
            return
        self._mounted.add(class_name)
        if class_name not in self._classes and self._knows_classes:
            close = difflib.get_close_matches(class_name, self._classes, n=1)
            question = f"Did you mean {close[0]}? " if close else ""
            yield self._finding(
                "class-not-found",
                (*path, "volumeAttributes", SPC_ATTRIBUTE),
                f"SecretProviderClass {excerpt(class_name)} was not found in namespace"
                f" {self._pod.manifest.namespace}",
                f"{question}It must be in the namespace of the pod.",
            )

    def _mounts(self, path: FieldPath, container: Value, csi: set[str]) -> Iterator[Finding]:
        for index, mount in enumerate(_items(_get(container, "volumeMounts"))):
            name = _text(_get(mount, "name"))
            if name in csi and (_get(mount, "subPath") or _get(mount, "subPathExpr")):
                yield self._finding(
                    "sub-path",
                    (*path, "volumeMounts", index, "subPath"),
                    f"volume {excerpt(name)} is mounted with subPath, so the container never sees"
                    " a refreshed file",
                    "Mount the whole volume to a folder, and let the application read the file"
                    " there.",
                )

    def _variables(
        self, path: FieldPath, container: Value, volumes: dict[str, Value]
    ) -> Iterator[Finding]:
        for index, source in enumerate(_items(_get(container, "envFrom"))):
            reference = _get(source, "secretRef")
            yield from self._secret((*path, "envFrom", index), reference, key=None)
        for index, variable in enumerate(_items(_get(container, "env"))):
            place = (*path, "env", index, "valueFrom")
            reference = _get(variable, "valueFrom", "secretKeyRef")
            yield from self._secret(place, reference, key=_text(_get(reference, "key")))
            yield from self._file_key(place, _get(variable, "valueFrom", "fileKeyRef"), volumes)

    def _secret_volume(self, path: FieldPath, volume: Value) -> Iterator[Finding]:
        sources = [((*path, "secret"), _get(volume, "secret"), "secretName")]
        for index, source in enumerate(_items(_get(volume, "projected", "sources"))):
            place = (*path, "projected", "sources", index, "secret")
            sources.append((place, _get(source, "secret"), "name"))
        for place, reference, name in sources:
            named: Value = {
                "name": _get(reference, name),
                "optional": _get(reference, "optional"),
            }
            items = _items(_get(reference, "items"))
            for at, item in enumerate(items):
                key = _text(_get(item, "key"))
                yield from self._secret((*place, "items", at, "key"), named, key=key)
            if not items:
                yield from self._secret(place, named, key=None)

    def _secret(self, path: FieldPath, reference: Value, *, key: str | None) -> Iterator[Finding]:
        name = _text(_get(reference, "name"))
        makers = [spc for spc in self._classes.values() if name and name in spc.secret_names]
        syncs = [sync for sync in self._syncs if sync.ref.name == name]
        if not (makers or syncs) or _get(reference, "optional") is True:
            return
        keys = {
            entry.key
            for spc in makers
            for secret in spc.secret_objects
            if secret.name == name
            for entry in secret.data
        } | {entry.key for sync in syncs for entry in sync.secret_object.data}
        if key and key not in keys and "*" not in keys:
            close = difflib.get_close_matches(key, keys, n=1)
            listed = ", ".join(sorted(map(excerpt, keys)))
            yield self._finding(
                "secret-key",
                path,
                f"secret {name} has no key {excerpt(key)}; its keys are: {listed}",
                f"Did you mean {close[0]}?"
                if close
                else f"Add it to data of {'secretObjects' if makers else 'the SecretSync'}.",
            )
        if syncs:
            return  # which makes the Secret without a pod
        knows_all = self._mounted <= self._classes.keys()
        if knows_all and self._mounted.isdisjoint(spc.name for spc in makers):
            yield self._finding(
                "secret-without-volume",
                path,
                f"secret {name} exists only while a pod mounts SecretProviderClass"
                f" {makers[0].name}, and this pod does not",
                "Add a csi volume with it to the pod.",
            )

    def _file_key(
        self, path: FieldPath, reference: Value, volumes: dict[str, Value]
    ) -> Iterator[Finding]:
        name = _text(_get(reference, "volumeName"))
        if not name or name not in volumes:
            return
        empty_dir = _get(volumes[name], "emptyDir")
        volume = volumes[name]
        if not isinstance(volume, dict) or "emptyDir" not in volume:
            yield self._finding(
                "env-file",
                path,
                f"fileKeyRef reads from volume {excerpt(name)}, which is not an emptyDir",
                "Copy the file of the csi volume to an emptyDir with medium: Memory in an init"
                " container.",
            )
        elif _get(empty_dir, "medium") != "Memory":
            yield self._finding(
                "env-file-on-disk",
                path,
                f"fileKeyRef reads from volume {excerpt(name)}, an emptyDir on a disk",
                "Set emptyDir: {medium: Memory}, so that the values are not written to a disk.",
            )
        yield from self._file_variable((*path, "fileKeyRef"), _text(_get(reference, "key")))

    def _file_variable(self, path: FieldPath, key: str) -> Iterator[Finding]:
        """Yield a variable that no SecretProviderClass of the pod writes, if all are known."""
        names: set[str] = set()
        possible: set[str] = set()
        for class_name in sorted(self._mounted):
            spc = self._classes.get(class_name)
            try:
                written = None if spc is None else variables_of(spc)
            except AuthorError:
                return
            if spc is None or (written is None and "envFile" in spc.parameters):
                return
            if written is not None:
                names |= written[0]
                possible |= written[0] | written[1]
        if names and key not in possible:
            close = difflib.get_close_matches(key, names, n=1)
            listed = ", ".join(sorted(map(excerpt, names)))
            yield self._finding(
                "env-file-key",
                path,
                f"no SecretProviderClass of the pod writes the variable {excerpt(key)}; they"
                f" write: {listed}",
                f"Did you mean {close[0]}?" if close else "Set the name in envNames.",
            )

    def _finding(self, rule: str, path: FieldPath, problem: str, remedy: str) -> Finding:
        place: Place = self._pod.manifest.place(*self._pod.path, *path)
        return finding(rule, place, self._pod.manifest.subject, problem, remedy)


def _get(value: Value, *path: str) -> Value:
    """Return the field at `path`; None if it is missing or a parent has another type."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _items(value: Value) -> Sequence[Value]:
    return value if isinstance(value, list) else ()


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""
