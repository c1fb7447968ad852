"""keyferry.providers.azure.auth.sni: the TLS server name of the token proxy of AKS."""

from __future__ import annotations

import pytest

from keyferry.providers.azure.auth.sni import cluster_id, token_proxy_server_name


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        (
            "696995ccb303450001b31a18",
            "aeaf29ip1hi5q38ebc3u4daum81u0unk52t5bg50j25234fmuj78g.ests.aks",
        ),
        (
            "abc123def456",
            "avimke6u6l2eeq8qc1cneuaq4sl2e1av9t4clqgun97le32hub670.ests.aks",
        ),
    ],
)
def test_server_name_is_derived_from_the_cluster_id(cluster: str, name: str) -> None:
    """Upstream's test vectors; the first label has 53 characters."""
    assert token_proxy_server_name(cluster) == name
    assert len(name.split(".")[0]) == 53


def test_cluster_id_is_found_in_the_certificate() -> None:
    """Among the other names of the API server."""
    names = ["kubernetes", "hcp-kubernetes.abc.svc.cluster.local", "kubernetes.default.svc"]
    assert cluster_id(names) == "abc"


@pytest.mark.parametrize(
    "names", [[], ["kubernetes.default.svc"], ["x.hcp-kubernetes.abc.svc.cluster.local"]]
)
def test_clusters_other_than_aks_have_no_id(names: list[str]) -> None:
    """Only AKS has this name."""
    assert cluster_id(names) == ""
