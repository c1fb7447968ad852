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
def test_the_name_follows_from_the_id_of_the_cluster(cluster: str, name: str) -> None:
    """The vectors of upstream; the first label has 53 characters."""
    assert token_proxy_server_name(cluster) == name
    assert len(name.split(".")[0]) == 53


def test_the_id_is_in_a_name_of_the_certificate() -> None:
    """Among those of the API server."""
    names = ["kubernetes", "hcp-kubernetes.abc.svc.cluster.local", "kubernetes.default.svc"]
    assert cluster_id(names) == "abc"


@pytest.mark.parametrize(
    "names", [[], ["kubernetes.default.svc"], ["x.hcp-kubernetes.abc.svc.cluster.local"]]
)
def test_other_clusters_have_no_such_id(names: list[str]) -> None:
    """Only AKS does."""
    assert cluster_id(names) == ""
