"""Vault auth methods for the service accounts of a cluster: TokenReview and published keys."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.cluster.api_server import ApiServer
from tests.e2e.vault.engines import RENEW_LEASES, allow
from tests.e2e.vault.server import VaultServer

_REVIEWER = "openbao-reviewer"


async def enable_cluster_auth(openbao: VaultServer, server: ApiServer) -> None:
    """Enable the auth methods `kubernetes` and `jwt` for the service accounts of a cluster."""
    kubectl, ca = server.kubectl, server.authority.certificate.read_text()
    await kubectl("create", "serviceaccount", _REVIEWER, "--namespace=kube-system")
    await kubectl(
        *("create", "clusterrolebinding", _REVIEWER, "--clusterrole=system:auth-delegator"),
        f"--serviceaccount=kube-system:{_REVIEWER}",
    )
    await kubectl(
        *("create", "clusterrolebinding", "openbao-discovery", "--group=system:unauthenticated"),
        "--clusterrole=system:service-account-issuer-discovery",
    )
    reviewer = await kubectl("create", "token", _REVIEWER, "--namespace=kube-system")
    await openbao.write("sys/auth/kubernetes", {"type": "kubernetes"})
    config = {
        "kubernetes_host": server.address.url,
        "kubernetes_ca_cert": ca,
        "token_reviewer_jwt": reviewer,
    }
    await openbao.write("auth/kubernetes/config", config)
    await openbao.write("sys/auth/jwt", {"type": "jwt"})
    discovery = {"oidc_discovery_url": server.address.url, "oidc_discovery_ca_pem": ca}
    await openbao.write("auth/jwt/config", discovery)


async def kubernetes_role(
    openbao: VaultServer,
    name: str,
    *paths: str,
    namespace: str,
    account: str = "default",
    audience: str = "vault",
    capabilities: Sequence[str] = ("read", "update"),
    policies: Sequence[str] = (),
) -> None:
    """Create a role of auth/kubernetes for one service account, with access to `paths`.

    Args:
        openbao: the server.
        name: of the role.
        paths: a new policy named after the role permits them.
        namespace: of the service account.
        account: name of the service account.
        audience: of its tokens.
        capabilities: the permitted operations on `paths`.
        policies: existing policies of the role.
    """
    if paths:
        await allow(openbao, name, *paths, capabilities=capabilities)
        policies = [name, *policies]
    role = {
        "bound_service_account_names": [account],
        "bound_service_account_namespaces": [namespace],
        "audience": audience,
        "token_policies": [*policies, RENEW_LEASES],
        "token_ttl": "20m",
    }
    await openbao.write(f"auth/kubernetes/role/{name}", role)
