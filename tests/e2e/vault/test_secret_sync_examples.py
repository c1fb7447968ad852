"""examples/secret-sync for Vault and OpenBao, with a real OpenBao server."""

from __future__ import annotations

import pytest

from keyferry.aio.jobs import ThreadJobRunner
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.sync_controller.tokens import TokenKey
from tests.e2e.vault.engines import allow, enable_kv, jwt_role, put_kv
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.sync_examples import read_example, synced_data

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

ADDRESS = "https://vault.example.com:8200"
PREFIXES = {"vault": "vault", "openbao": "bao"}


async def test_examples_deliver_their_secrets(vault: VaultServer, signer: TokenSigner) -> None:
    """With a token of the service account of the SecretSync, for the audience of the product.

    Kubernetes auth needs a cluster: a JWT auth method at its path replaces it.
    """
    await enable_kv(vault, "secret", version=2)
    await put_kv(vault, "secret/data/db", password="Hello!")
    await allow(vault, "shop", "secret/data/db")
    await vault.write("sys/auth/kubernetes", {"type": "jwt"})
    key = {"jwt_validation_pubkeys": [signer.public_key]}
    await vault.write("auth/kubernetes/config", key)
    for product, prefix in PREFIXES.items():
        await jwt_role(vault, "shop", "shop", mount="kubernetes", audience=product)
        example = read_example(product)
        assert ADDRESS == example.spc.parameters[f"{prefix}Address"]
        place = {f"{prefix}Address": vault.address, f"{prefix}CACertPath": str(vault.ca)}
        settings = ProviderSettings(restrictions=UNRESTRICTED)
        deps = ProviderDependencies(
            HttpsSettings(), settings, uncached_fetcher(), ThreadJobRunner()
        )
        requested: list[TokenKey] = []

        def issue(key: TokenKey, requested: list[TokenKey] = requested) -> str:
            requested.append(key)
            return signer.token(key.namespace, key.service_account, audience=key.audience)

        data = await synced_data(example.with_parameters(place), deps, issue=issue)
        assert {"DB_PASSWORD": b"Hello!"} == data
        assert [TokenKey("shop", "web", product)] == requested
