"""One case of the comparison: a SecretProviderClass, its pod, and expected differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.compat.outcome import Outcome
from tests.compat.vault_contents import APP, APP_SECRET, TENANT, VAULT
from tests.e2e.cluster.kubectl import Document

Change = Callable[[Outcome], Outcome]
"""Converts the outcome of upstream to the expected outcome of Keyferry."""

Tokens = Callable[[str, str], str]
"""From namespace and audience to what kubelet hands over for the service account of the pods."""

SERVICE_PRINCIPAL = {"clientid": APP, "clientsecret": APP_SECRET}
KEY_VAULT = {"keyvaultName": VAULT, "tenantID": TENANT}


@dataclass(frozen=True)
class Difference:
    """An intended difference from upstream.

    Attributes:
        row: first cell of the table row in docs/ that documents it.
        change: converts the outcome of upstream.
        driver: whether Keyferry's driver differs; otherwise its provider.
    """

    row: str
    change: Change
    driver: bool = False


@dataclass(frozen=True)
class Case:
    """One class and its pod.

    Attributes:
        name: of both.
        objects: the entries of `objects`, or its text; None leaves it out.
        parameters: further parameters of the class; None removes a parameter.
        vault: the parameters that name the vault.
        secret_objects: Secrets to be made.
        secrets: the data of the `nodePublishSecretRef`.
        provider: what the class says.
        class_name: what the pod says, if not `name`.
        token_for: the audience of a service-account token that kubelet sends; "" for none.
        quiet: whether upstream shows no sign that it has finished the Secrets.
        says: regular expression for the error of every stack.
        differs: intended differences.
    """

    name: str
    objects: Sequence[Mapping[str, object]] | str | None
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    vault: Mapping[str, str] = field(default_factory=lambda: KEY_VAULT)
    secret_objects: Sequence[Mapping[str, object]] = ()
    secrets: Mapping[str, str] = field(default_factory=lambda: SERVICE_PRINCIPAL)
    provider: str = "azure"
    class_name: str = ""
    token_for: str = ""
    quiet: bool = False
    says: str = ""
    differs: Sequence[Difference] = ()

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The Secrets that the class asks for."""
        return tuple(str(entry["secretName"]) for entry in self.secret_objects)

    def context_in(self, namespace: str, tokens: Tokens) -> Mapping[str, str]:
        """What kubelet says beyond the usual about a pod of that namespace."""
        if not self.token_for:
            return {}
        return {SERVICE_ACCOUNT_TOKENS: tokens(namespace, self.token_for)}

    def manifests(self, namespace: str) -> tuple[Document, Document]:
        """The class and the pod."""
        parameters: dict[str, str | None] = dict(self.vault)
        if isinstance(self.objects, str):
            parameters["objects"] = self.objects
        elif self.objects is not None:
            # JSON is YAML; so both sides read the same text.
            entries = [json.dumps(entry) for entry in self.objects]
            parameters["objects"] = json.dumps({"array": entries})
        parameters |= self.parameters
        spec: dict[str, object] = {
            "provider": self.provider,
            "parameters": {key: text for key, text in parameters.items() if text is not None},
        }
        if self.secret_objects:
            spec["secretObjects"] = list(self.secret_objects)
        return (
            {
                "apiVersion": "secrets-store.csi.x-k8s.io/v1",
                "kind": "SecretProviderClass",
                "metadata": {"name": self.name, "namespace": namespace},
                "spec": spec,
            },
            pod_manifest(self.name, namespace, self.class_name or self.name),
        )


def pod_manifest(name: str, namespace: str, class_name: str) -> Document:
    """A pod with that volume, on the node of the stack."""
    source = {
        "driver": "secrets-store.csi.k8s.io",
        "readOnly": True,
        "volumeAttributes": {"secretProviderClass": class_name},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": namespace,
            "serviceAccountName": "web",
            "automountServiceAccountToken": False,
            "containers": [{"name": "web", "image": "web"}],
            "volumes": [{"name": "secrets", "csi": source}],
        },
    }


def secret(name: str, **fields: object) -> Mapping[str, object]:
    """An entry of `objects` for a secret."""
    return {"objectName": name, "objectType": "secret", **fields}


def key(name: str, **fields: object) -> Mapping[str, object]:
    """An entry for a key."""
    return {"objectName": name, "objectType": "key", **fields}


def cert(name: str, **fields: object) -> Mapping[str, object]:
    """An entry for a certificate."""
    return {"objectName": name, "objectType": "cert", **fields}


def kubernetes_secret(
    name: str, data: Mapping[str, str], kind: str = "Opaque", **fields: object
) -> Mapping[str, object]:
    """An entry of `secretObjects`: the file of each key."""
    pairs = [{"key": of, "objectName": path} for of, path in data.items()]
    return {"secretName": name, "type": kind, "data": pairs, **fields}
