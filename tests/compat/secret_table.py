"""The part of the table about Kubernetes Secrets."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from keyferry.records import replace
from tests.compat.cases import Case, Difference, kubernetes_secret, secret
from tests.compat.outcome import KEYFERRY_ANNOTATIONS, Outcome

TLS = "kubernetes.io/tls"


def secret_cases() -> tuple[Case, ...]:
    """All of them."""
    return (*_kubernetes_secrets(), *_bad_kubernetes_secrets())


def _kubernetes_secrets() -> tuple[Case, ...]:
    pair = [secret("plain", objectAlias="user"), secret("other", objectAlias="folder/password")]
    both = {"username": "user", "password": "folder/password"}

    def tls(name: str, **fields: object) -> Case:
        data = {"tls.crt": name, "tls.key": name}
        return Case(
            f"tls-{name}",
            [secret(name)],
            secret_objects=[kubernetes_secret(f"tls-{name}", data, TLS, **fields)],
        )

    return (
        Case("opaque", pair, secret_objects=[kubernetes_secret("opaque", both)]),
        Case(
            "labels",
            pair,
            secret_objects=[
                kubernetes_secret(
                    "labels", both, labels={"team": "shop"}, annotations={"note": "of the vault"}
                )
            ],
        ),
        Case(
            "several",
            pair,
            secret_objects=[
                kubernetes_secret("several-1", {"a": "user"}),
                kubernetes_secret("several-2", {"b": " user "}),
            ],
        ),
        Case(
            "basic-auth",
            pair,
            secret_objects=[kubernetes_secret("basic-auth", both, "kubernetes.io/basic-auth")],
        ),
        Case(
            "ssh-auth",
            pair,
            secret_objects=[
                kubernetes_secret("ssh-auth", {"ssh-privatekey": "user"}, "kubernetes.io/ssh-auth")
            ],
        ),
        Case(
            "docker",
            [secret("docker")],
            secret_objects=[
                kubernetes_secret(
                    "docker", {".dockerconfigjson": "docker"}, "kubernetes.io/dockerconfigjson"
                )
            ],
        ),
        Case(
            "custom-type",
            pair,
            secret_objects=[kubernetes_secret("custom-type", both, "example.com/custom")],
        ),
        Case(
            "history-in-secret",
            [secret("history", objectVersionHistory=9)],
            secret_objects=[
                kubernetes_secret("history-in-secret", {"new": "history/0", "old": "history/1"})
            ],
        ),
        tls("pem-rsa"),
        tls("pem-ec"),
        tls("pfx-rsa"),
        tls("pfx-ec"),
        tls("chain", labels={"ingress": "yes"}),
        Case(
            "tls-parts",
            [secret("pfx-rsa")],
            secret_objects=[
                kubernetes_secret(
                    "tls-parts", {"tls.crt": "pfx-rsa.crt", "tls.key": "pfx-rsa.key"}, TLS
                )
            ],
        ),
    )


def _bad_kubernetes_secrets() -> tuple[Case, ...]:
    plain = [secret("plain", objectAlias="db")]
    return (
        Case(
            "unknown-object",
            plain,
            secret_objects=[kubernetes_secret("unknown-object", {"a": "nowhere"})],
        ),
        Case(
            "further-key",
            [secret("pem-rsa")],
            secret_objects=[
                kubernetes_secret(
                    "further-key",
                    {"ca.crt": "pem-rsa", "tls.crt": "pem-rsa", "tls.key": "pem-rsa"},
                    TLS,
                )
            ],
            differs=[Difference("`kubernetes.io/tls` with further keys", _with_ca, driver=True)],
        ),
        Case(
            "no-type",
            plain,
            secret_objects=[kubernetes_secret("no-type", {"a": "db"}, "")],
            quiet=True,
            differs=[_recorded],
        ),
        Case(
            "no-data",
            plain,
            secret_objects=[kubernetes_secret("no-data", {})],
            quiet=True,
            differs=[_recorded],
        ),
        Case(
            "own-name",
            plain,
            secret_objects=[kubernetes_secret("own-name", {"a": "plain"})],
            differs=[
                Difference(
                    "`objectName` in `secretObjects`", lambda it: _made(it, "own-name"), driver=True
                )
            ],
        ),
        Case(
            "key-unreadable",
            [secret("pem-unreadable")],
            secret_objects=[
                kubernetes_secret(
                    "key-unreadable",
                    {"tls.crt": "pem-unreadable", "tls.key": "pem-unreadable"},
                    TLS,
                )
            ],
            differs=[
                Difference(
                    "`kubernetes.io/tls` from an unreadable key",
                    lambda it: replace(it, secrets={}, complaints=True),
                    driver=True,
                )
            ],
        ),
    )


def _annotated(outcome: Outcome) -> Outcome:
    """Each Secret bears our annotations as well."""
    added = dict.fromkeys(KEYFERRY_ANNOTATIONS, "SET")
    secrets: dict[str, Mapping[str, Any]] = {}
    for name, document in outcome.secrets.items():
        metadata = document["metadata"]
        annotations = {**metadata.get("annotations", {}), **added}
        secrets[name] = {**document, "metadata": {**metadata, "annotations": annotations}}
    return replace(outcome, secrets=secrets)


ON_ALL_SECRETS = Difference("annotations of Secrets", _annotated, driver=True)
"""Applies to every case, after its own differences."""

_recorded = Difference(
    "an entry of `secretObjects` without type or data",
    lambda it: replace(it, complaints=True),
    driver=True,
)


def _with_ca(outcome: Outcome) -> Outcome:
    """The Secret has the certificate twice, and its key."""
    pem = outcome.files["pem-rsa"][1]
    (certificate,) = x509.load_pem_x509_certificates(pem)
    key = load_pem_private_key(pem, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    public = certificate.public_bytes(Encoding.PEM)
    data = {"ca.crt": public, "tls.crt": public, "tls.key": key}
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return _made(outcome, "further-key", encoded, TLS)


def _made(
    outcome: Outcome, name: str, data: Mapping[str, str] | None = None, type_: str = "Opaque"
) -> Outcome:
    """The Secret is there, by default with the value of `plain`, and nothing is wrong."""
    owner = f"{name}-PAIRING-{name}"
    document: Mapping[str, Any] = {
        "apiVersion": "v1",
        "data": data or {"a": "czNjcmV0"},
        "kind": "Secret",
        "metadata": {
            "labels": {"secrets-store.csi.k8s.io/managed": "true"},
            "name": name,
            "namespace": "PAIRING",
            "ownerReferences": [
                {
                    "apiVersion": "secrets-store.csi.x-k8s.io/v1",
                    "kind": "SecretProviderClassPodStatus",
                    "name": owner,
                    "uid": f"uid-of-SecretProviderClassPodStatus-{owner}",
                }
            ],
        },
        "type": type_,
    }
    return replace(outcome, secrets={name: document}, complaints=False)
