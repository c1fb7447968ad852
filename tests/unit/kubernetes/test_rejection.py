"""keyferry.kubernetes.rejection: why the API says no, in its own words of Kubernetes 1.34."""

from __future__ import annotations

import json

import pytest

from keyferry.kubernetes.rejection import (
    OwnPolicy,
    Rejection,
    RejectionKind,
    parse_rejection,
    rejection_of,
)

MESSAGES = [
    (
        RejectionKind.PERMISSION,
        "",
        (
            'secrets "web" is forbidden: User'
            ' "system:serviceaccount:kube-system:keyferry" cannot patch'
            ' resource "secrets" in API group "" in the namespace "shop"'
        ),
    ),
    (
        RejectionKind.PERMISSION,
        "",
        (
            'secrets is forbidden: User "x" cannot list resource "secrets" in API group "" in the'
            ' namespace "shop"'
        ),
    ),
    (
        RejectionKind.QUOTA,
        "q",
        (
            'secrets "web" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=0,'
            " limited: secrets=0"
        ),
    ),
    (
        RejectionKind.QUOTA,
        "objects.v2",
        (
            'secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io "web-0-shop-web"'
            " is forbidden:"
            " exceeded quota: objects.v2, requested:"
            " count/secretproviderclasspodstatuses.x=1, used: 9"
        ),
    ),
    (
        RejectionKind.QUOTA_UNKNOWN,
        "q",
        'secrets "web" is forbidden: status unknown for quota: q, resources: secrets',
    ),
    (
        RejectionKind.WEBHOOK,
        "validate.kyverno.svc-fail",
        'admission webhook "validate.kyverno.svc-fail" denied the request: data canary is bad',
    ),
    (
        RejectionKind.WEBHOOK,
        "a.example.com",
        'admission webhook "a.example.com" denied the request without explanation',
    ),
    (
        RejectionKind.WEBHOOK_FAILED,
        "a.example.com",
        (
            'Internal error occurred: failed calling webhook "a.example.com": failed to'
            " call webhook:"
            ' Post "https://a.example.com/canary": context deadline exceeded'
        ),
    ),
    (
        RejectionKind.POLICY,
        "no-secrets",
        (
            "secrets \"web\" is forbidden: ValidatingAdmissionPolicy 'no-secrets' with"
            " binding 'all'"
            " denied request: canary"
        ),
    ),
    (
        RejectionKind.POLICY,
        "keyferry-sync-token-opt-in",
        (
            'serviceaccounts "web" is forbidden: ValidatingAdmissionPolicy'
            " 'keyferry-sync-token-opt-in' with binding 'keyferry-sync-token-opt-in' denied"
            " request: canary"
        ),
    ),
    (
        RejectionKind.POLICY,
        "p",
        (
            "secrets \"web\" is forbidden: policy 'p' with binding 'b' denied request: failed to"
            " configure binding: no params found for policy binding with `Deny`"
            " parameterNotFoundAction"
        ),
    ),
    (
        RejectionKind.TERMINATING,
        "shop",
        (
            'events "web-0.17" is forbidden: unable to create new content in namespace'
            " shop because it"
            " is being terminated"
        ),
    ),
    (
        RejectionKind.OWNERS,
        "",
        'secrets "web" is forbidden: cannot set an ownerRef on a resource you can\'t delete: c',
    ),
]


@pytest.mark.parametrize(("kind", "name", "message"), MESSAGES)
def test_known_message_is_recognized(kind: RejectionKind, name: str, message: str) -> None:
    """Nothing but the name of an object of the cluster is repeated."""
    found = parse_rejection(message)
    assert found is not None
    assert (kind, name) == (found.kind, found.name)
    assert name in found.problem
    assert "canary" not in found.problem + found.remedy("shop")
    assert bool(found.remedy("shop")) == (kind is not RejectionKind.PERMISSION)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Forbidden",
        'secrets "web" is forbidden: something new: canary',
        'secrets "web" is forbidden: exceeded quota: q w e r t y, requested: x',
        'the value is: admission webhook "a" denied the request: canary',
        'admission webhook "a b" denied the request: canary',
        'secrets "web" is invalid: type: Invalid value: "exceeded quota: q, requested: "',
    ],
)
def test_other_messages_are_not_interpreted(message: str) -> None:
    assert parse_rejection(message) is None


def test_body_that_is_no_status_is_not_interpreted() -> None:
    for body in (b"", b"<html>", b"[]", b'{"message": 3}', b'{"kind": "Status"}'):
        assert rejection_of(body) is None
    assert rejection_of(json.dumps({"message": MESSAGES[2][2]}).encode()) is not None


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("keyferry-sync-tokens", "secretSync.tokenRequests of the chart"),
        ("r-keyferry-sync-token-opt-in", "label secret-sync.x-k8s.io/allowed=true"),
        ("keyferry-sync-secrets", "secretSync.admissionPolicies.allowedSecretTypes"),
        ("keyferry-sync-secret-updates", "annotation keyferry.dev/adopt=true"),
        ("keyferry-sync-secret-deletions", "Delete the Secret yourself"),
        ("secrets", "kubectl describe validatingadmissionpolicy secrets"),
        ("their-tokens", "kubectl describe validatingadmissionpolicy their-tokens"),
    ],
)
def test_policies_of_the_chart_have_remedies_of_their_own(policy: str, words: str) -> None:
    """They are recognized with every name of the release."""
    rejection = Rejection(RejectionKind.POLICY, policy)
    assert words in rejection.remedy("shop")
    assert (rejection.own_policy is None) == (policy in {"secrets", "their-tokens"})


def test_each_policy_of_the_chart_has_a_remedy() -> None:
    remedies = {
        Rejection(RejectionKind.POLICY, f"x-sync-{own.value}").remedy("shop") for own in OwnPolicy
    }
    assert len(remedies) == len(OwnPolicy)
