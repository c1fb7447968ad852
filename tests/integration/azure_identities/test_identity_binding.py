"""Identity binding: the token comes from the proxy of the cluster."""

from __future__ import annotations

from pathlib import Path

from keyferry.errors import ConnectionFailedError, IdentityError, Stage
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from keyferry.providers.settings import ProviderSettings
from keyferry.records import replace
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import CloseMidResponse, DevVault, RespondStatus, running_devvault
from tests.integration.azure_identities.calls import (
    APP,
    BINDING,
    BOUND,
    SUBJECT,
    VALUE,
    bound,
    provider_for,
    value,
)


async def test_bound_identity_gets_its_token_from_the_proxy(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The TLS server name is discovered from the certificate of the API server."""
    assert await value(provider, call(bound(vault))) == VALUE.encode()
    hosts = [record.host for record in vault.requests if record.kind is RequestKind.TOKEN]
    assert hosts == ["kubernetes.default.svc.cluster.local"]


async def test_two_volumes_of_one_pod_use_two_modes(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Workload identity and identity binding with one service account."""
    vault.federate(APP, subject=SUBJECT)
    audiences = ("api://AzureADTokenExchange", BINDING)
    tokens = {SERVICE_ACCOUNT_TOKENS: vault.service_account_token(SUBJECT, audience=audiences)}
    await provider.mount(call(tokens | {"clientID": APP}))
    await provider.mount(call(tokens | {"clientID": BOUND, "useAzureTokenProxy": "true"}))
    hosts = [record.host for record in vault.requests if record.kind is RequestKind.TOKEN]
    assert hosts == ["login.microsoftonline.com", "kubernetes.default.svc.cluster.local"]


async def test_federated_credential_of_entra_is_not_a_binding(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Each endpoint accepts only tokens of its own audience."""
    vault.federate(APP, subject=SUBJECT)
    error = await mount_error(provider, call(bound(vault) | {"clientID": APP}))
    assert "(AADSTS700211)" in error.problem


async def test_binding_of_another_service_account_is_refused(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The message has issuer, subject and audience of the token."""
    other = "system:serviceaccount:shop:other"
    error = await mount_error(provider, call(bound(vault, other) | {SERVICE_ACCOUNT: "other"}))
    assert f"has the subject {other} (AADSTS700213)" in error.problem
    assert f"audience {BINDING}" in error.remedy


async def test_wrong_server_name_does_not_reach_the_proxy(vault: DevVault) -> None:
    """It selects the API server, whose errors have no code."""
    settings = ProviderSettings(sni_name="kubernetes.default.svc.cluster.local")
    async with provider_for(vault, settings) as provider:
        error = await mount_error(provider, call(bound(vault)))
    assert "refuses a token" in error.problem
    assert "with status 401" in error.problem
    assert "use-managed-identity" in error.remedy


async def test_server_name_missing_in_the_certificate_is_a_tls_failure(
    vault: DevVault,
) -> None:
    """The certificate of the proxy is verified."""
    async with provider_for(vault, ProviderSettings(sni_name="other.ests.aks")) as provider:
        error = await mount_error(provider, call(bound(vault)))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.TLS)
    assert vault.count(RequestKind.TOKEN) == 0


async def test_cluster_without_the_proxy_is_an_error_on_first_use(
    vault: DevVault, tmp_path: Path
) -> None:
    """With upstream's text; the start does not wait for it."""
    async with running_devvault(tmp_path / "other") as other:
        trusts_another = replace(vault.redirect, ca_file=other.redirect.ca_file)
        async with provider_for(vault, redirect=trusts_another) as provider:
            error = await mount_error(provider, call(bound(vault)))
    assert isinstance(error, IdentityError)
    assert "proxy transport not available: the certificate of kubernetes.default" in error.problem


async def test_failing_proxy_is_retried(vault: DevVault, provider: AzureProvider) -> None:
    """Like every other endpoint."""
    vault.add_fault("kubernetes.default", RespondStatus(503))
    vault.add_fault("kubernetes.default", CloseMidResponse())
    assert await value(provider, call(bound(vault))) == VALUE.encode()
