"""The Kubernetes objects of the scenarios: SecretProviderClasses, pods and workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.kubectl import Document
from tests.fakes.devvault import DEFAULT_TENANT

MACHINE = "11111111-0000-4000-8000-000000000001"
"""The managed identity of the node, which may read the vault `contoso`."""

VAULT = "contoso"
CSI_DRIVER = "secrets-store.csi.k8s.io"
CLASS_API = "secrets-store.csi.x-k8s.io/v1"


def azure_class(
    name: str,
    objects: Mapping[str, str],
    *,
    secret_objects: Sequence[Document] = (),
    vault: str = VAULT,
    **identity: str,
) -> Document:
    """Return a SecretProviderClass for secrets of a Key Vault, by default as the node's identity.

    Args:
        name: of the SecretProviderClass.
        objects: alias by name of the secret; "" for no alias.
        secret_objects: the entries of `secretObjects`.
        vault: the name of the vault.
        identity: parameters that replace those of the managed identity.
    """
    entries = [
        yaml.safe_dump({"objectName": secret, "objectType": "secret", "objectAlias": alias})
        for secret, alias in objects.items()
    ]
    who = identity or {"useVMManagedIdentity": "true", "userAssignedIdentityID": MACHINE}
    parameters = {
        "keyvaultName": vault,
        "tenantID": DEFAULT_TENANT,
        "objects": yaml.safe_dump({"array": entries}),
        **who,
    }
    return secret_provider_class(name, "azure", parameters, secret_objects)


def secret_provider_class(
    name: str,
    provider: str,
    parameters: Mapping[str, str],
    secret_objects: Sequence[Document] = (),
    *,
    api: str = CLASS_API,
) -> Document:
    """Return a SecretProviderClass for any provider."""
    spec: Document = {"provider": provider, "parameters": dict(parameters)}
    if secret_objects:
        spec["secretObjects"] = list(secret_objects)
    return {
        "apiVersion": api,
        "kind": "SecretProviderClass",
        "metadata": {"name": name},
        "spec": spec,
    }


def secret_object(
    name: str, data: Mapping[str, str], *, kind: str = "Opaque", **more: object
) -> Document:
    """Return an entry of `secretObjects`; `data` maps keys to object names."""
    keys = [{"objectName": target, "key": key} for key, target in data.items()]
    return {"secretName": name, "type": kind, "data": keys, **more}


def pod_spec(
    *classes: str,
    command: str = "sleep 3600",
    env: Mapping[str, tuple[str, str]] | None = None,
    credentials: str = "",
    **spec: object,
) -> Document:
    """Return the spec of a pod with a volume at `/mnt/NAME` for each SecretProviderClass.

    Args:
        classes: the names of the SecretProviderClasses.
        command: a shell command.
        env: variables from Secrets, each with the name of a Secret and a key.
        credentials: the Secret of `nodePublishSecretRef`.
        spec: additional fields of the spec.
    """
    variables = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in (env or {}).items()
    ]
    mounts = [{"name": name, "mountPath": f"/mnt/{name}", "readOnly": True} for name in classes]
    return {
        # Without a grace period the pod is deleted from the API before its volumes are unmounted.
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": BUSYBOX,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", command],
                "env": variables,
                "volumeMounts": mounts,
            }
        ],
        "volumes": [_volume(name, credentials) for name in classes],
        **spec,
    }


def _volume(class_name: str, credentials: str) -> Document:
    csi: Document = {
        "driver": CSI_DRIVER,
        "readOnly": True,
        "volumeAttributes": {"secretProviderClass": class_name},
    }
    if credentials:
        csi["nodePublishSecretRef"] = {"name": credentials}
    return {"name": class_name, "csi": csi}


def pod(name: str, *classes: str, **options: Any) -> Document:
    """Return a pod with a volume for each SecretProviderClass; see `pod_spec` for `options`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": pod_spec(*classes, **options),
    }


def deployment(name: str, *classes: str, replicas: int = 1, **options: Any) -> Document:
    """Return a Deployment of pods like those of `pod`, with the label `app`."""
    return _of_pods("Deployment", name, *classes, options=options, replicas=replicas)


def stateful_set(name: str, *classes: str, **options: Any) -> Document:
    """Return a StatefulSet with one pod, `NAME-0`."""
    return _of_pods("StatefulSet", name, *classes, options=options, serviceName=name, replicas=1)


def _of_pods(
    kind: str, name: str, *classes: str, options: Mapping[str, Any], **spec: object
) -> Document:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(*classes, **options)},
            **spec,
        },
    }


def job(name: str, *classes: str, command: str) -> Document:
    """Return a Job that runs a command once."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": _job_spec(*classes, command=command),
    }


def cron_job(name: str, *classes: str, command: str) -> Document:
    """Return a CronJob that runs a command every minute."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": "* * * * *",
            "jobTemplate": {"spec": _job_spec(*classes, command=command)},
        },
    }


def _job_spec(*classes: str, command: str) -> Document:
    spec = pod_spec(*classes, command=command, restartPolicy="Never")
    return {"backoffLimit": 0, "template": {"spec": spec}}
