"""The API server without nodes, which the tests of the object store use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cluster.api_server import running_api_server
from tests.e2e.cluster.waiting import eventually

pytestmark = pytest.mark.timeout(300)


async def test_objects_outlive_a_restart_of_the_api_server(tmp_path: Path) -> None:
    """The data is in etcd, so clients find it after a restart."""
    async with running_api_server(tmp_path / "api") as server:
        await server.kubectl("create", "namespace", "shop")
        await server.kubectl("create", "secret", "generic", "web", "--namespace=shop")
        await server.stop()
        with pytest.raises(AssertionError, match="refused"):
            await server.kubectl("get", "namespaces")
        await server.start()
        names = await server.kubectl("get", "secrets", "--namespace=shop", "--output=name")
        assert "secret/web\n" == names


async def test_a_user_has_no_permissions_without_rbac_rules(tmp_path: Path) -> None:
    """RBAC is enabled: a role permits exactly what it lists."""
    async with running_api_server(tmp_path / "api") as server:
        kubeconfig = server.kubeconfig_of("driver")
        arguments = ("get", "pods", f"--kubeconfig={kubeconfig}")
        with pytest.raises(AssertionError, match="Forbidden"):
            await server.kubectl(*arguments)
        await server.kubectl("create", "clusterrole", "reader", "--verb=list", "--resource=pods")
        await server.kubectl(
            "create", "clusterrolebinding", "reader", "--clusterrole=reader", "--user=driver"
        )

        async def permitted() -> str:
            return await server.kubectl(*arguments)

        assert "" == await eventually(permitted, "the API server to read the rules")


async def test_a_service_account_gets_a_token_for_an_audience(tmp_path: Path) -> None:
    """The API server signs the tokens that the driver requests for pods."""
    async with running_api_server(tmp_path / "api") as server:
        await server.kubectl("create", "serviceaccount", "web")
        token = await server.kubectl("create", "token", "web", "--audience=vault")
        assert 3 == len(token.split("."))
