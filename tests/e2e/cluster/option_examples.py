"""The examples of examples/options, for the vaults and the images of the tests."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE
from tests.e2e.cluster.vault_cluster import VaultCluster

EXAMPLES = Path(__file__).parents[3] / "examples" / "options"


def azure_example(name: str, prefix: str) -> tuple[Document, ...]:
    """Return SecretProviderClass and pod of an example for Azure.

    Args:
        name: of the file, without `-azure.yaml`.
        prefix: of the names of its objects in the vault; the files keep their names.
    """
    documents = _documents(f"{name}-azure")
    parameters = documents[0]["spec"]["parameters"]
    parameters["userAssignedIdentityID"] = MACHINE
    entries = [yaml.safe_load(each) for each in yaml.safe_load(parameters["objects"])["array"]]
    renamed = [
        _selecting(each, prefix)
        if "find" in each
        else {"objectAlias": each["objectName"], **each, "objectName": prefix + each["objectName"]}
        for each in entries
    ]
    parameters["objects"] = yaml.safe_dump({"array": [yaml.safe_dump(each) for each in renamed]})
    return documents


def vault_example(name: str, bao: VaultCluster, role: str) -> tuple[Document, ...]:
    """Return SecretProviderClass, service account and pod of an example for Vault and OpenBao.

    Args:
        name: of the file, without `-vault.yaml`.
        bao: the cluster and the server.
        role: of the auth method.
    """
    documents = _documents(f"{name}-vault")
    parameters = documents[0]["spec"]["parameters"]
    known = bao.vault_class("known", role=role)["spec"]["parameters"]
    parameters |= {key: value for key, value in known.items() if key != "objects"}
    return documents


def _selecting(entry: Document, prefix: str) -> Document:
    """Return an entry whose patterns match names with the prefix."""
    assert entry["find"]["name"]["regexp"].startswith("^")
    text = yaml.safe_dump(entry).replace("^", f"^{prefix}")
    return dict(yaml.safe_load(text))


def _documents(name: str) -> tuple[Document, ...]:
    """Return the documents of a file without a namespace, with the image of the tests."""
    documents = tuple(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))
    for document in documents:
        del document["metadata"]["namespace"]
    spec = documents[-1]["spec"]
    spec["terminationGracePeriodSeconds"] = 1
    for container in spec.get("initContainers", []) + spec["containers"]:
        assert "busybox" == container["image"]
        container |= {"image": BUSYBOX, "imagePullPolicy": "Never"}
    return documents
