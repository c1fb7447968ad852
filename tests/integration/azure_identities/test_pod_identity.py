"""Pod identity: the token comes from NMI."""

from __future__ import annotations

from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DevVault, RespondStatus
from tests.integration.azure_identities.calls import VALUE, value


async def test_pod_uses_its_assigned_identity(vault: DevVault, provider: AzureProvider) -> None:
    """NMI identifies it by the names of pod and namespace."""
    assert await value(provider, call({"usePodIdentity": "true"})) == VALUE.encode()
    assert vault.count(RequestKind.NMI) == 1


async def test_pods_never_share_a_token_of_nmi(vault: DevVault, provider: AzureProvider) -> None:
    """Another pod may have another identity, or none."""
    await provider.mount(call({"usePodIdentity": "true"}))
    error = await mount_error(provider, call({"usePodIdentity": "true", POD_NAME: "db-0"}))
    assert "nmi response failed with status code: 403" in error.problem
    assert "the identity of pod shop/db-0" in error.problem
    assert "keyferry devvault identity assign-pod CLIENT_ID --namespace shop" in error.remedy


async def test_identity_that_is_not_yet_assigned_is_retried(
    vault: DevVault, provider: AzureProvider
) -> None:
    """NMI returns 404 until it is assigned."""
    vault.add_fault("localhost/host/token", RespondStatus(404), times=2)
    assert await value(provider, call({"usePodIdentity": "true"})) == VALUE.encode()


async def test_nmi_response_without_token_and_client_is_an_error(
    vault: DevVault, provider: AzureProvider
) -> None:
    """With upstream's text, which users search for."""
    vault.add_fault("localhost/host/token", RespondStatus(200))
    error = await mount_error(provider, call({"usePodIdentity": "true"}))
    words = "nmi did not return expected values in response: token and clientid"
    assert words in error.problem
