"""What `keyferry lint` finds, and the rules that it knows. [pure]"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping


class Severity(StrEnum):
    """How bad a finding is; only errors fail the command, and warnings with `--strict`."""

    ERROR = "error"
    """The mount fails, a Secret is not created, or the API server rejects the object."""
    WARNING = "warning"
    """It works, but probably not as its author expects."""


class Rule(Struct, frozen=True):
    """One kind of finding.

    Attributes:
        id: lower case with hyphens; users disable rules by it.
        severity: of its findings.
        summary: what it checks, a sentence.
    """

    id: str
    severity: Severity
    summary: str


def _rules(*rules: Rule) -> Mapping[str, Rule]:
    return {rule.id: rule for rule in rules}


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
RULES = _rules(
    Rule("file", _ERROR, "A file can be read and is YAML."),
    Rule("class", _ERROR, "A SecretProviderClass can be mounted."),
    Rule("provider", _WARNING, "The name of the provider is not a misspelled one."),
    Rule("duplicate-class", _ERROR, "A SecretProviderClass is defined once."),
    Rule("secret-object", _ERROR, "An entry of secretObjects makes a valid Secret."),
    Rule("shared-secret", _WARNING, "Two SecretProviderClasses do not make the same Secret."),
    Rule(
        "unknown-field",
        _WARNING,
        "Each field of a SecretProviderClass or SecretSync has an effect.",
    ),
    Rule("deprecated-identity", _WARNING, "The identity mode has a future."),
    Rule("upstream", _WARNING, "The upstream driver and sync controller read the object alike."),
    Rule("sync", _ERROR, "A SecretSync is valid."),
    Rule(
        "sync-source",
        _ERROR,
        "The files of the SecretProviderClass make the Secret of a SecretSync.",
    ),
    Rule("sync-identity", _ERROR, "A SecretSync can log in without a pod."),
    Rule("sync-annotation", _WARNING, "An annotation of a SecretSync has a valid value."),
    Rule("duplicate-sync", _ERROR, "A Secret is made by one SecretSync."),
    Rule("claimed-secret", _ERROR, "A Secret is not made by a SecretSync and by secretObjects."),
    Rule("volume", _ERROR, "The driver accepts the csi volume of a pod."),
    Rule(
        "class-not-found",
        _WARNING,
        "The SecretProviderClass of a pod or SecretSync is checked, too.",
    ),
    Rule("sub-path", _WARNING, "A mounted file is refreshed."),
    Rule("secret-not-found", _WARNING, "The Secret that a pod uses is made by something."),
    Rule("secret-key", _ERROR, "A Secret has the key that a container uses."),
    Rule("secret-without-volume", _WARNING, "A pod mounts the volume that makes its Secret."),
    Rule("env-file", _ERROR, "The volume of fileKeyRef is an emptyDir."),
    Rule("env-file-on-disk", _WARNING, "The volume of fileKeyRef is in memory."),
    Rule("env-file-key", _WARNING, "A SecretProviderClass writes the variable of fileKeyRef."),
    Rule("missing-crd", _ERROR, "The cluster has the CRDs of the driver."),
    Rule("old-crd", _WARNING, "The CRDs of the cluster have all fields of the status."),
    Rule("csi-driver", _ERROR, "The CSIDriver object lets kubelet call the driver."),
    Rule("rbac", _ERROR, "The driver and the SecretSync controller have the rights they need."),
    Rule("audience", _ERROR, "A token with the audience that a SecretProviderClass needs exists."),
    Rule("service-account", _ERROR, "The service account of a pod or SecretSync can be used."),
    Rule("not-handled", _WARNING, "A controller handles the SecretSync."),
)
"""All rules by id."""


class Place(Struct, frozen=True):
    """Where in a file, or in a cluster, something is.

    Attributes:
        file: its path as it was named; `-` for standard input. In a cluster `namespace/name`, or
            the name of a CRD.
        line: from 1; 0 in a cluster.
    """

    file: str
    line: int = 1

    def __str__(self) -> str:
        """Return `file:line`, or the object of a cluster."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def below(self, lines: int) -> Place:
        """Return the place some lines below; the same one in a cluster."""
        return Place(self.file, self.line + lines) if self.line else self


class Finding(Struct, frozen=True):
    """One finding.

    Attributes:
        rule: of `RULES`.
        place: where.
        subject: the object, such as `SecretProviderClass default/app`; "" for a file.
        problem: what is wrong, a clause without a value of a Secret.
        remedy: what to do, a sentence; may be "".
    """

    rule: Rule
    place: Place
    subject: str
    problem: str
    remedy: str = ""


def finding(rule: str, place: Place, subject: str, problem: str, remedy: str = "") -> Finding:
    """Return a finding of the rule with this id."""
    return Finding(RULES[rule], place, subject, problem.rstrip("."), remedy)
