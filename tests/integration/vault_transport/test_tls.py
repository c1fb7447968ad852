"""TLS connections to a vault: verification of the vault, and client certificates."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keyferry.errors import ConnectionFailedError, IdentityError, PlatformError, Stage
from keyferry.providers.settings import TlsLayer, VaultSettings
from keyferry.providers.vault.http.tls import TlsContexts
from keyferry.providers.vault.product import OPENBAO
from keyferry.telemetry.metrics import Metrics
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.log import captured_log
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_certificates import SERVER_NAME_PARAMETER, VaultCertificates
from tests.fakes.vault_mounts import FakePod, vault_mounts
from tests.integration.vault_transport.preparation import DB, POLICY, prepare


class TestTls:
    """Verification of the vault, and client certificates."""

    async def test_configured_private_ca_is_trusted(self, tmp_path: Path) -> None:
        """From a file or directory of the SecretProviderClass, a flag, or the environment."""
        made = VaultCertificates(tmp_path)
        folder = tmp_path / "cas" / "deep"
        folder.mkdir(parents=True)
        (folder / "ca").write_bytes(made.authority.pem)
        async with running_vault(context=made.context()) as vault:
            prepare(vault)
            for parameters in (
                {"vaultCACertPath": str(made.ca)},
                {"vaultCADirectory": str(tmp_path / "cas")},
            ):
                async with vault_mounts(vault) as mounts:
                    assert await mounts.files(DB, **SERVER_NAME_PARAMETER, **parameters)
            for layer in (
                TlsLayer(ca_file=str(made.ca), server_name="test.domain.com"),
                TlsLayer(ca_pem=made.authority.pem.decode(), server_name="test.domain.com"),
            ):
                async with vault_mounts(vault, settings=VaultSettings(tls=(layer,))) as mounts:
                    assert await mounts.files(DB)

    async def test_private_ca_without_key_identifiers_is_trusted(self, tmp_path: Path) -> None:
        """Python 3.13 would reject it by default. Go accepts it."""
        made = VaultCertificates(tmp_path, identifiers=False)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            assert await mounts.files(DB, **SERVER_NAME_PARAMETER, vaultCACertPath=str(made.ca))

    async def test_no_request_is_sent_to_an_untrusted_vault(self, tmp_path: Path) -> None:
        """The error names the parameter. The same applies to a wrong host name."""
        made = VaultCertificates(tmp_path)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            with pytest.raises(ConnectionFailedError, match="vaultCACertPath") as caught:
                await mounts.files(DB, **SERVER_NAME_PARAMETER)
            assert Stage.TLS is caught.value.stage
            with pytest.raises(ConnectionFailedError, match="vaultTLSServerName"):
                await mounts.files(DB, vaultCACertPath=str(made.ca))
            assert [] == vault.audit

    async def test_skipped_verification_is_logged_once(self, tmp_path: Path) -> None:
        """Once for each TLS configuration."""
        made = VaultCertificates(tmp_path)
        metrics = Metrics()
        async with (
            running_vault(context=made.context()) as vault,
            vault_mounts(vault, metrics=metrics) as mounts,
        ):
            prepare(vault)
            with captured_log() as log:
                for _ in range(2):
                    assert await mounts.files(DB, vaultSkipTLSVerify="true")
            assert 1 == log.getvalue().count("NOT verified")
        host = vault.parameters["vaultAddress"].removeprefix("https://")
        series = f'keyferry_vault_tls_verification_disabled{{os_type="linux",vault="{host}"}} 1.0'
        assert series in metrics.exposition().decode()

    async def test_server_names_never_share_a_connection(self, tmp_path: Path) -> None:
        """A verified name says nothing about another one."""
        made = VaultCertificates(tmp_path)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            ca = {"vaultCACertPath": str(made.ca)}
            assert await mounts.files(DB, **SERVER_NAME_PARAMETER, **ca)
            with pytest.raises(ConnectionFailedError, match="another name"):
                await mounts.files(DB, vaultTLSServerName="other.domain.com", **ca)

    async def test_concurrent_mounts_share_connections(self, tmp_path: Path) -> None:
        """They use one TLS context."""
        made = VaultCertificates(tmp_path)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            server = mounts.server(**SERVER_NAME_PARAMETER, vaultCACertPath=str(made.ca))
            contexts = TlsContexts()
            found = await asyncio.gather(*(contexts.get(server) for _ in range(20)))
            assert 1 == len(set(map(id, found)))

    async def test_changed_ca_file_is_loaded_without_restart(self, tmp_path: Path) -> None:
        made = VaultCertificates(tmp_path)
        ca = tmp_path / "mounted.pem"
        ca.write_bytes(issue_certificate("old", new_ec_key(), is_ca=True).pem)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            with pytest.raises(ConnectionFailedError):
                await mounts.files(DB, **SERVER_NAME_PARAMETER, vaultCACertPath=str(ca))
            ca.write_bytes(made.authority.pem + b"\n")
            assert await mounts.files(DB, **SERVER_NAME_PARAMETER, vaultCACertPath=str(ca))

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"vaultCACertPath": "{}/absent"}, "absent cannot be read"),
            ({"vaultCACertPath": "{}/bad/hello"}, "contains no PEM certificate"),
            ({"vaultCADirectory": "{}/bad"}, "contains no PEM certificate"),
            ({"vaultCADirectory": "{}/ca.pem"}, "it is not a directory"),
            (
                {
                    "vaultTLSClientCertPath": "{}/client.crt",
                    "vaultTLSClientKeyPath": "{}/server.key",
                },
                "do not match or are not PEM",
            ),
        ],
    )
    async def test_unusable_tls_file_is_named(
        self, tmp_path: Path, parameters: dict[str, str], words: str
    ) -> None:
        """With the reason."""
        made = VaultCertificates(tmp_path)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "hello").write_text("Hello")
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            paths = {key: value.format(tmp_path) for key, value in parameters.items()}
            with pytest.raises(PlatformError, match=words) as caught:
                await mounts.files(DB, **paths)
            assert Stage.TLS is caught.value.stage

    async def test_openbao_skips_files_that_are_not_certificates(self, tmp_path: Path) -> None:
        """In a directory."""
        made = VaultCertificates(tmp_path)
        (tmp_path / "README").write_text("Hello")
        context = made.context()
        async with (
            running_vault(context=context) as vault,
            vault_mounts(vault, product=OPENBAO) as mounts,
        ):
            prepare(vault)
            pod = FakePod(audience="openbao")
            vault.add_role("app", accounts=["shop/web"], policy=POLICY, audience="openbao")
            assert await mounts.files(
                DB, pod=pod, **SERVER_NAME_PARAMETER, baoCADirectory=str(tmp_path)
            )

    async def test_client_certificate_logs_in(self, tmp_path: Path) -> None:
        """From the pod's Secret or from files. Other certificates are rejected."""
        made = VaultCertificates(tmp_path)
        der = made.client.certificate.public_bytes(Encoding.DER)
        fingerprint = hashlib.sha256(der).hexdigest()
        context = made.context(wants_client=True)
        async with running_vault(context=context) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            vault.add_role("web", mount="cert", policy=POLICY, fingerprint=fingerprint)
            secret = {"tls.crt": made.client.pem.decode(), "tls.key": made.client.key_pem.decode()}
            cert: dict[str, Any] = {
                **SERVER_NAME_PARAMETER,
                "vaultCACertPath": str(made.ca),
                "vaultAuthMethod": "cert",
            }
            call = mounts.call(DB, **cert)
            assert (await mounts.provider.mount(replace(call, secrets=secret))).files
            other = issue_certificate("other", new_ec_key(), made.authority)
            secret = {"tls.crt": other.pem.decode(), "tls.key": other.key_pem.decode()}
            with pytest.raises(IdentityError, match="the certificate was rejected"):
                await mounts.provider.mount(replace(call, secrets=secret))
