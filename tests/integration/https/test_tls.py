"""Certificates of vaults that are not accepted, and why."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keyferry.errors import ConnectionFailedError, Stage
from keyferry_devvault.client import DevRedirect
from tests.integration.https.certificates import tls_for
from tests.integration.https.serving import CLOUD_URL, client, failure, ok, serving


@pytest.mark.parametrize(
    ("host", "days", "reason"),
    [
        ("*.vault.azure.net", -0.5, "it has expired"),
        ("*.vault.azure.cn", 1, "it was issued for another name"),
    ],
)
async def test_invalid_certificate_is_a_tls_failure_with_the_reason(
    tmp_path: Path, host: str, days: float, reason: str
) -> None:
    """Once, because another try would meet the same certificate."""
    tls = tls_for(tmp_path, host, timedelta(days=days))
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(dev.emulator().https) as made:
            error = await failure(made, CLOUD_URL)
        assert server.requests == []
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.TLS)
    expected = f"the TLS certificate of contoso.vault.azure.net is not accepted: {reason}"
    assert error.problem.endswith(expected)


async def test_untrusted_issuer_is_a_tls_failure(tmp_path: Path) -> None:
    """Only the CA of the development vault is trusted, and no other."""
    tls = tls_for(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    trusted = tls_for(other).ca_file
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, trusted)
        async with client(dev.emulator().https) as made:
            error = await failure(made, CLOUD_URL)
    assert error.stage is Stage.TLS
    assert "is not accepted: " in error.problem
    assert "SSL_CERT_FILE" in error.remedy


async def test_server_without_tls_is_a_tls_failure(tmp_path: Path) -> None:
    """A plain HTTP server at an https URL."""
    tls = tls_for(tmp_path)
    async with serving(ok) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(dev.emulator().https) as made:
            error = await failure(made, CLOUD_URL)
    assert error.stage is Stage.TLS
    assert "the TLS handshake with contoso.vault.azure.net failed" in error.problem
