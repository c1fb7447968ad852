"""Checks pods, and templates of pods, against SecretProviderClasses and SecretSyncs."""

from __future__ import annotations

import difflib
from itertools import chain
from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, excerpt
from keyferry.formats.fields import get, items, text
from keyferry.formats.unknown_fields import FieldTable
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.lint.finding import finding
from keyferry.lint.variables import variables_of
from keyferry.providers.known_fields.attributes import SPC_ATTRIBUTE
from keyferry.providers.registry import needs_credentials
from keyferry.secrets.builder import ALL_FILES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from keyferry.formats.kubernetes_yaml import FieldPath, Value
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.lint.finding import Finding, Place
    from keyferry.lint.manifests import LintedPod, Manifests

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_PULL_KEYS = (".dockerconfigjson", ".dockercfg")
_TYPO = 0.8
"""Similarity of two names of which one is probably misspelled."""
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
        other = {
            name for namespace, name in manifests.secrets if namespace == pod.manifest.namespace
        }
        yield from _PodCheck(pod, here, synced, other, manifests).findings()


class _PodCheck:
    """The check of one pod.

    Args:
        pod: the pod.
        classes: the SecretProviderClasses of its namespace, by name.
        syncs: the SecretSyncs of its namespace.
        other_secrets: the names of Secrets of its namespace that something else makes.
        manifests: say what is known.
    """

    def __init__(
        self,
        pod: LintedPod,
        classes: dict[str, SecretProviderClass],
        syncs: Sequence[SecretSync],
        other_secrets: Collection[str],
        manifests: Manifests,
    ) -> None:
        self._pod = pod
        self._classes = classes
        self._syncs = syncs
        self._other_secrets = other_secrets
        self._knows_classes = manifests.knows_classes
        self._is_cluster = manifests.is_complete
        self._mounted: set[str] = set()
        """The names of the SecretProviderClasses that the pod mounts."""

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        volumes: dict[str, Value] = {}
        csi: set[str] = set()
        for index, volume in enumerate(items(self._pod.spec.get("volumes"))):
            name = text(get(volume, "name"))
            volumes[name] = volume
            if get(volume, "csi", "driver") == DRIVER_NAME:
                csi.add(name)
                yield from self._volume(("volumes", index, "csi"), name, get(volume, "csi"))
        for index, volume in enumerate(items(self._pod.spec.get("volumes"))):
            yield from self._secret_volume(("volumes", index), volume)
        for index, reference in enumerate(items(self._pod.spec.get("imagePullSecrets"))):
            yield from self._pull_secret(("imagePullSecrets", index), reference)
        for kind in _CONTAINERS:
            for index, container in enumerate(items(self._pod.spec.get(kind))):
                path = (kind, index)
                yield from self._mounts(path, container, csi)
                yield from self._variables(path, container, volumes)

    def _volume(self, path: FieldPath, name: str, csi: Value) -> Iterator[Finding]:
        if get(csi, "readOnly") is not True:
            yield self._finding(
                "volume",
                path,
                f"volume {excerpt(name)} is not read-only, which the driver refuses",
                "Set readOnly: true in the csi volume.",
            )
        attributes = get(csi, "volumeAttributes")
        given = attributes if isinstance(attributes, dict) else {}
        class_name = text(given.get(SPC_ATTRIBUTE))
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
        spc = self._classes.get(class_name)
        if spc and needs_credentials(spc) and not get(csi, "nodePublishSecretRef", "name"):
            yield self._finding(
                "volume",
                path,
                f"SecretProviderClass {class_name} logs in with credentials from a Secret, and"
                f" volume {excerpt(name)} names none",
                "Set nodePublishSecretRef in the csi volume, or choose another identity in the"
                " SecretProviderClass.",
            )

    def _mounts(self, path: FieldPath, container: Value, csi: set[str]) -> Iterator[Finding]:
        for index, mount in enumerate(items(get(container, "volumeMounts"))):
            name = text(get(mount, "name"))
            if name in csi and (get(mount, "subPath") or get(mount, "subPathExpr")):
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
        for index, source in enumerate(items(get(container, "envFrom"))):
            reference = get(source, "secretRef")
            yield from self._secret((*path, "envFrom", index), reference, key=None)
        for index, variable in enumerate(items(get(container, "env"))):
            place = (*path, "env", index, "valueFrom")
            reference = get(variable, "valueFrom", "secretKeyRef")
            yield from self._secret(place, reference, key=text(get(reference, "key")))
            yield from self._file_key(place, get(variable, "valueFrom", "fileKeyRef"), volumes)

    def _secret_volume(self, path: FieldPath, volume: Value) -> Iterator[Finding]:
        sources = [((*path, "secret"), get(volume, "secret"), "secretName")]
        for index, source in enumerate(items(get(volume, "projected", "sources"))):
            place = (*path, "projected", "sources", index, "secret")
            sources.append((place, get(source, "secret"), "name"))
        for place, reference, name in sources:
            named: Value = {
                "name": get(reference, name),
                "optional": get(reference, "optional"),
            }
            chosen = items(get(reference, "items"))
            for at, item in enumerate(chosen):
                key = text(get(item, "key"))
                yield from self._secret((*place, "items", at, "key"), named, key=key)
            if not chosen:
                yield from self._secret(place, named, key=None)

    def _pull_secret(self, path: FieldPath, reference: Value) -> Iterator[Finding]:
        name = text(get(reference, "name"))
        keys = self._keys(name)
        if keys and ALL_FILES not in keys and keys.isdisjoint(_PULL_KEYS):
            yield self._finding(
                "secret-key",
                path,
                f"secret {name} has no key {_PULL_KEYS[0]}, so kubelet ignores it",
                "Set type: kubernetes.io/dockerconfigjson and the key .dockerconfigjson.",
            )
        yield from self._secret(path, reference, key=None)

    def _keys(self, name: str) -> set[str]:
        """Return the keys of a Secret that SecretProviderClasses and SecretSyncs make."""
        of_classes = (
            entry
            for spc in self._classes.values()
            for secret in spc.secret_objects
            if name and secret.name == name
            for entry in secret.data
        )
        synced = (sync for sync in self._syncs if sync.ref.name == name)
        of_syncs = (entry for sync in synced for entry in sync.secret_object.data)
        return {entry.key for entry in chain(of_classes, of_syncs)}

    def _missing_secret(self, path: FieldPath, name: str) -> Iterator[Finding]:
        """Yield a Secret that nothing makes, if the pod probably expects it from a volume.

        1. Its name is nearly that of a Secret that a SecretProviderClass or a SecretSync makes.
        2. The pod mounts SecretProviderClasses, all of them are known, and no file has the Secret.
           In a cluster, whose Secrets are not read, it may exist.
        """
        made = {name for spc in self._classes.values() for name in spc.secret_names}
        made |= {sync.ref.name for sync in self._syncs}
        close = difflib.get_close_matches(name, made, n=1, cutoff=_TYPO)
        mounts = bool(self._mounted) and self._mounted <= self._classes.keys()
        if not name or name in self._other_secrets or not (close or mounts):
            return
        if close or not self._is_cluster:
            yield self._finding(
                "secret-not-found",
                path,
                f"no SecretProviderClass, SecretSync or other manifest makes secret"
                f" {excerpt(name)}",
                f"Did you mean {close[0]}?"
                if close
                else "Add it to secretObjects of the SecretProviderClass, unless something else"
                " creates it.",
            )

    def _secret(self, path: FieldPath, reference: Value, *, key: str | None) -> Iterator[Finding]:
        name = text(get(reference, "name"))
        makers = [spc for spc in self._classes.values() if name and name in spc.secret_names]
        syncs = [sync for sync in self._syncs if sync.ref.name == name]
        if get(reference, "optional") is True:
            return
        if not (makers or syncs):
            yield from self._missing_secret(path, name)
            return
        keys = self._keys(name)
        if key and key not in keys and ALL_FILES not in keys:
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
        name = text(get(reference, "volumeName"))
        if not name or name not in volumes:
            return
        empty_dir = get(volumes[name], "emptyDir")
        volume = volumes[name]
        if not isinstance(volume, dict) or "emptyDir" not in volume:
            yield self._finding(
                "env-file",
                path,
                f"fileKeyRef reads from volume {excerpt(name)}, which is not an emptyDir",
                "Copy the file of the csi volume to an emptyDir with medium: Memory in an init"
                " container.",
            )
        elif get(empty_dir, "medium") != "Memory":
            yield self._finding(
                "env-file-on-disk",
                path,
                f"fileKeyRef reads from volume {excerpt(name)}, an emptyDir on a disk",
                "Set emptyDir: {medium: Memory}, so that the values are not written to a disk.",
            )
        yield from self._file_variable((*path, "fileKeyRef"), text(get(reference, "key")))

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
