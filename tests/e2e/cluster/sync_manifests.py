"""Manifests around SecretSyncs: a small CRD, permissions of the controller, admission policies."""

from __future__ import annotations

from typing import Any

from keyferry.kubernetes.syncs.groups import SyncGroup
from tests.fakes.kube_objects import DEFAULT_STATUS

CONTROLLER = "system:serviceaccount:keyferry:keyferry-sync"
"""The user name of the controller."""


def crd(group: SyncGroup) -> dict[str, Any]:
    """Return a small CRD of SecretSyncs: what matters is the default of the status."""
    kept = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    condition_list = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {**kept, "required": ["type"], "properties": {"type": {"type": "string"}}},
    }
    status = {**kept, "default": DEFAULT_STATUS, "properties": {"conditions": condition_list}}
    schema = {"type": "object", "properties": {"spec": kept, "status": status}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": group.resource},
        "spec": {
            "group": group.group,
            "scope": "Namespaced",
            "names": {"plural": "secretsyncs", "singular": "secretsync", "kind": "SecretSync"},
            "versions": [
                {
                    "name": group.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def role(name: str, kind: str, *rules: tuple[str, str, str], namespace: str = "") -> list[Any]:
    """Return a role of the controller and its binding; a rule is groups, resources and verbs."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    api = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{api}/v1",
            "kind": kind,
            "metadata": metadata,
            "rules": [
                {
                    "apiGroups": groups.split(","),
                    "resources": resources.split(","),
                    "verbs": verbs.split(","),
                }
                for groups, resources, verbs in rules
            ],
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": kind, "name": name},
            "subjects": [{"kind": "User", "apiGroup": api, "name": CONTROLLER}],
        },
    ]


PERMISSIONS = [
    *role(
        "sync",
        "ClusterRole",
        ("secret-sync.x-k8s.io,secret-sync.gke.io", "secretsyncs", "get,list,watch"),
        ("secret-sync.x-k8s.io,secret-sync.gke.io", "secretsyncs/status", "patch"),
        ("secrets-store.csi.x-k8s.io", "secretproviderclasses", "get,list,watch"),
    ),
    *role(
        "sync",
        "Role",
        ("", "secrets", "get,list,watch,create,patch,delete"),
        ("", "serviceaccounts", "get,list,watch"),
        ("", "serviceaccounts/token", "create"),
        namespace="shop",
    ),
    *role(
        "sync", "Role", ("coordination.k8s.io", "leases", "create,get,update"), namespace="keyferry"
    ),
]
"""Those of the chart, for the namespace shop."""


def policy(name: str, resource: str, message: str) -> list[Any]:
    """Return an admission policy that denies the controller everything, and its binding."""
    api = "admissionregistration.k8s.io/v1"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [resource],
    }
    return [
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "matchConditions": [
                    {"name": "user", "expression": f"request.userInfo.username == '{CONTROLLER}'"}
                ],
                "validations": [{"expression": "false", "message": message, "reason": "Forbidden"}],
            },
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]
