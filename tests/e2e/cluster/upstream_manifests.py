"""The plain manifests of the upstream Vault provider, with the image of Keyferry.

Names, permissions, arguments and probes are upstream's. Changed are the image, the folders of this
machine, and the CA of the test server.

Source: docs/reference/upstream-vault-provider.md#plain-manifests
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cluster.keyferry_image import KEYFERRY
from tests.e2e.cluster.kubectl import Document

NAMESPACE = "csi"
NAME = "vault-csi-provider"
KEY = f"{NAME}-hmac-key"
"""The Secret with the HMAC key for object versions."""


def upstream_provider(*, sockets: Path, tls: Path, tls_mounted_at: str) -> list[Document]:
    """Return the objects that `kubectl apply` of upstream's folder creates.

    Args:
        sockets: the folder of provider sockets on the node.
        tls: the folder with the CA of the server on the node.
        tls_mounted_at: where classes say that it is.
    """
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(NAME)},
        *_role("ClusterRole", f"{NAME}-clusterrole", _rule("serviceaccounts/token", "create")),
        *_role(
            "Role",
            f"{NAME}-role",
            {**_rule("secrets", "get"), "resourceNames": [KEY]},
            _rule("secrets", "create"),
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {**_metadata(NAME), "labels": {"app.kubernetes.io/name": NAME}},
            "spec": {
                "updateStrategy": {"type": "RollingUpdate"},
                "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
                "template": {
                    "metadata": {"labels": {"app.kubernetes.io/name": NAME}},
                    "spec": {
                        "serviceAccountName": NAME,
                        "nodeSelector": {"kubernetes.io/os": "linux"},
                        "containers": [_container(tls_mounted_at)],
                        "volumes": [
                            {"name": "providervol", "hostPath": {"path": str(sockets)}},
                            {"name": "tls", "hostPath": {"path": str(tls)}},
                        ],
                    },
                },
            },
        },
    ]


def _container(tls_mounted_at: str) -> Document:
    probe = {
        "httpGet": {"path": "/health/ready", "port": 8080, "scheme": "HTTP"},
        "failureThreshold": 2,
        "initialDelaySeconds": 5,
        "periodSeconds": 5,
        "successThreshold": 1,
        "timeoutSeconds": 3,
    }
    return {
        "name": "provider-vault-installer",
        "image": KEYFERRY,
        "imagePullPolicy": "Never",
        "args": [
            *("provider", "vault", "-endpoint=/provider/vault.sock", "-log-level=info"),
            # Not of upstream: the server of the test runs on the node.
            *("-allow-local-addresses", f"-class-files-dirs={tls_mounted_at}"),
        ],
        "resources": {
            "requests": {"cpu": "50m", "memory": "100Mi"},
            "limits": {"cpu": "50m", "memory": "100Mi"},
        },
        "volumeMounts": [
            {"name": "providervol", "mountPath": "/provider"},
            {"name": "tls", "mountPath": tls_mounted_at, "readOnly": True},
        ],
        "livenessProbe": probe,
        "readinessProbe": probe,
    }


def _metadata(name: str) -> Document:
    return {"name": name, "namespace": NAMESPACE}


def _rule(resource: str, verb: str) -> Document:
    return {"apiGroups": [""], "resources": [resource], "verbs": [verb]}


def _role(kind: str, name: str, *rules: Document) -> list[Document]:
    """A role, and its binding to the service account."""
    api = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    head = {"apiVersion": f"{api}/v1", "metadata": _metadata(name)}
    if kind == "ClusterRole":
        head["metadata"] = {"name": name}
    return [
        {**head, "kind": kind, "rules": list(rules)},
        {
            **head,
            "kind": f"{kind}Binding",
            "roleRef": {"apiGroup": api, "kind": kind, "name": name},
            "subjects": [account],
        },
    ]
