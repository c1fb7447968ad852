"""Why the Kubernetes API rejected a request, from the beginning of its message. [pure]

A 403 is mostly a missing permission, but also a quota, an admission webhook or policy, or a
namespace that is being deleted. The messages of these begin with fixed words and the name of an
object of the cluster. The rest can quote values of a Secret, so nothing else of it is used.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""

from __future__ import annotations

import re
from enum import Enum, auto

from msgspec import Struct

from keyferry.formats.go_json import NotJsonError, read_json


class RejectionKind(Enum):
    """What rejected a request."""

    PERMISSION = auto()
    """RBAC, or another authorizer."""
    QUOTA = auto()
    """A ResourceQuota of the namespace is exceeded."""
    QUOTA_UNKNOWN = auto()
    """The use of a new ResourceQuota is not computed yet."""
    WEBHOOK = auto()
    """An admission webhook denied it."""
    WEBHOOK_FAILED = auto()
    """An admission webhook does not respond."""
    POLICY = auto()
    """An admission policy denied it."""
    TERMINATING = auto()
    """The namespace is being deleted."""
    OWNERS = auto()
    """The admission plugin OwnerReferencesPermissionEnforcement denied it."""


class OwnPolicy(Enum):
    """The admission policies of the chart, which end with these words after `-sync-`."""

    SECRETS = "secrets"
    SECRET_UPDATES = "secret-updates"  # noqa: S105 - the name of a policy
    SECRET_DELETIONS = "secret-deletions"  # noqa: S105 - the name of a policy
    TOKENS = "tokens"
    TOKEN_OPT_IN = "token-opt-in"  # noqa: S105 - the name of a policy


class Rejection(Struct, frozen=True):
    """Why a request was rejected.

    Attributes:
        kind: what rejected it.
        name: the quota, webhook, policy or namespace, or "".
    """

    kind: RejectionKind
    name: str = ""

    @property
    def problem(self) -> str:
        """What happened, to follow a colon."""
        return _RULES[self.kind].problem.format(name=self.name)

    def remedy(self, namespace: str) -> str:
        """Return what to do; "" for a missing permission, which depends on the request.

        Args:
            namespace: of the object; "" for a cluster-scoped one.
        """
        remedy = _RULES[self.kind].remedy
        if self.kind is RejectionKind.POLICY and self.own_policy is not None:
            remedy = _OWN_POLICIES[self.own_policy]
        return remedy.format(name=self.name, namespace=namespace)

    @property
    def own_policy(self) -> OwnPolicy | None:
        """The policy of the chart that denied it; None for others."""
        return next((own for own in OwnPolicy if self.name.endswith(f"-sync-{own.value}")), None)


class _Rule(Struct, frozen=True):
    pattern: re.Pattern[str]
    problem: str
    remedy: str


_NAME = r"(?P<name>[A-Za-z0-9](?:[-A-Za-z0-9.]{0,251}[A-Za-z0-9])?)"
_FORBIDDEN = r'[-a-z0-9./]{1,120}(?: "[-a-z0-9.:]{0,253}")? is forbidden: '
_RULES = {
    RejectionKind.PERMISSION: _Rule(
        re.compile(rf'{_FORBIDDEN}User "'), "a permission is missing", ""
    ),
    RejectionKind.QUOTA: _Rule(
        re.compile(rf"{_FORBIDDEN}exceeded quota: {_NAME}, requested: "),
        "quota {name} of the namespace is exceeded",
        "Raise the quota, or delete objects that count: kubectl describe resourcequota {name}"
        " --namespace {namespace}.",
    ),
    RejectionKind.QUOTA_UNKNOWN: _Rule(
        re.compile(rf"{_FORBIDDEN}status unknown for quota: {_NAME}, resources: "),
        "the use of quota {name} of the namespace is not computed yet",
        "No action is needed: the request is retried.",
    ),
    RejectionKind.WEBHOOK: _Rule(
        re.compile(rf'admission webhook "{_NAME}" denied the request(?::| without )'),
        "admission webhook {name} denied it",
        "Ask the owner of the webhook what it requires, or exclude Keyferry: kubectl get"
        " validatingwebhookconfigurations,mutatingwebhookconfigurations.",
    ),
    RejectionKind.WEBHOOK_FAILED: _Rule(
        re.compile(rf'Internal error occurred: failed calling webhook "{_NAME}": '),
        "admission webhook {name} does not respond",
        "Check that the Service of the webhook has running pods.",
    ),
    RejectionKind.POLICY: _Rule(
        re.compile(
            rf"{_FORBIDDEN}(?:ValidatingAdmissionPolicy|policy) '{_NAME}'"
            r"(?: with binding '[-a-z0-9.]{1,253}')? denied request: "
        ),
        "admission policy {name} denied it",
        "Ask the owner of the policy what it requires: kubectl describe"
        " validatingadmissionpolicy {name}.",
    ),
    RejectionKind.TERMINATING: _Rule(
        re.compile(
            rf"{_FORBIDDEN}unable to create new content in namespace {_NAME} because it is being"
            " terminated"
        ),
        "namespace {name} is being deleted",
        "No action is needed: the objects of the namespace are deleted with it.",
    ),
    RejectionKind.OWNERS: _Rule(
        re.compile(rf"{_FORBIDDEN}cannot set (?:an ownerRef|blockOwnerDeletion) "),
        "it may not set the owners of the object",
        "Grant Keyferry the verb delete on the object, or disable the admission plugin"
        " OwnerReferencesPermissionEnforcement.",
    ),
}


_OWN_POLICIES = {
    OwnPolicy.SECRETS: "Use a type in secretObject.type that"
    " secretSync.admissionPolicies.allowedSecretTypes of the chart lists, and leave the SecretSync"
    " the only owner of the Secret.",
    OwnPolicy.SECRET_UPDATES: "The Secret was not created by this SecretSync: rename the"
    " SecretSync, or set the annotation keyferry.dev/adopt=true on both.",
    OwnPolicy.SECRET_DELETIONS: "Delete the Secret yourself: it has no label"
    " secrets-store.sync.x-k8s.io, or another owner than the SecretSync.",
    OwnPolicy.TOKENS: "Add the audience to secretSync.tokenRequests of the chart, and use the"
    " secretSync.tokenBinding of the chart as --token-binding.",
    OwnPolicy.TOKEN_OPT_IN: "Permit SecretSyncs to use the service account: set its label"
    " secret-sync.x-k8s.io/allowed=true.",
}
"""What to do about a denial of a policy of the chart."""


def parse_rejection(message: str) -> Rejection | None:
    """Return why a request was rejected; None if the message begins with other words."""
    for kind, rule in _RULES.items():
        if match := rule.pattern.match(message):
            return Rejection(kind, match.groupdict().get("name") or "")
    return None


def rejection_of(body: bytes) -> Rejection | None:
    """Return why a request was rejected, from the body of the response."""
    try:
        status = read_json(body)
    except NotJsonError:
        return None
    message = status.get("message") if isinstance(status, dict) else None
    return parse_rejection(message) if isinstance(message, str) else None
