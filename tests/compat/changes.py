"""Intended differences from the outcome of upstream."""

from __future__ import annotations

from tests.compat.cases import Change
from tests.compat.outcome import Outcome, Refusal
from tests.compat.vault_contents import Contents


def refused(code: str = "UNKNOWN") -> Change:
    """Keyferry rejects what upstream accepts."""
    return lambda _: Outcome(Refusal(code, ""))


def delivered(name: str, contents: Contents, **objects: bytes) -> Change:
    """Keyferry delivers what upstream rejects: files by path, with "_" for "-"."""
    named = {path.replace("_", "-"): value for path, value in objects.items()}
    ids = {contents.id_of(path.partition(".")[0]) for path in named}
    versions = {of: contents.versions[of][0] for of in ids}
    outcome = Outcome(
        files={of: (0o644, value) for of, value in named.items()},
        top=tuple(sorted(("..data", *named))),
        status=status_of(name, versions),
    )
    return lambda _: outcome


def status_of(name: str, versions: dict[str, str]) -> dict[str, object]:
    """The pod status of a case that upstream rejects."""
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClassPodStatus",
        "metadata": {
            "labels": {"internal.secrets-store.csi.k8s.io/node-name": "PAIRING"},
            "name": f"{name}-PAIRING-{name}",
            "namespace": "PAIRING",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": f"uid-of-Pod-{name}"}
            ],
        },
        "status": {
            "mounted": True,
            "objects": [{"id": of, "version": version} for of, version in versions.items()],
            "podName": name,
            "secretProviderClassName": name,
            "targetPath": f"FOLDER/pods/uid-of-Pod-{name}/volumes/kubernetes.io~csi/secrets/mount",
        },
    }
