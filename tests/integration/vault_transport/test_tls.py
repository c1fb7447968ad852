"""TLS connections to a vault: verification of the vault, and client certificates."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keyferry.errors import (
    ClassInvalidError,
    ConnectionFailedError,
    IdentityError,
    PlatformError,
    Stage,
)
from keyferry.formats.certs.pem import encode_block
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import TlsLayer, VaultSettings
from keyferry.providers.vault.http.tls import FILE_CHECK_SECONDS, TlsContexts
from keyferry.providers.vault.product import OPENBAO
from keyferry.records import replace
from keyferry.telemetry.metrics import ProviderMetrics
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.der import pbe, shrouded_key
from tests.fakes.jobs import RecordingJobRunner
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
        metrics = ProviderMetrics()
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
            https = HttpsClient(HttpsSettings())
            contexts = TlsContexts(https, ClassFiles(UNRESTRICTED))

            async def context() -> int:
                async with contexts.open(server, seconds=10) as found:
                    return id(found.context)

            assert 1 == len(set(await asyncio.gather(*(context() for _ in range(20)))))
            await contexts.close()

    async def test_changed_ca_file_is_loaded_without_restart(self, tmp_path: Path) -> None:
        made = VaultCertificates(tmp_path)
        ca = tmp_path / "mounted.pem"
        ca.write_bytes(issue_certificate("old", new_ec_key(), is_ca=True).pem)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            with pytest.raises(ConnectionFailedError):
                await mounts.files(DB, **SERVER_NAME_PARAMETER, vaultCACertPath=str(ca))
            ca.write_bytes(made.authority.pem + b"\n")
            await asyncio.sleep(FILE_CHECK_SECONDS)
            assert await mounts.files(DB, **SERVER_NAME_PARAMETER, vaultCACertPath=str(ca))

    @pytest.mark.parametrize(
        "parameters",
        [
            {"vaultCACertPath": "{}/absent"},
            {"vaultCACertPath": "{}/absent/x"},
            {"vaultCACertPath": "{}/bad"},
            {"vaultCACertPath": "{}/bad/hello"},
            {"vaultCACertPath": "{}/bad/damaged"},
            {"vaultCACertPath": "{}/outside"},
            {"vaultCACertPath": "/etc/hostname"},
            {"vaultCACertPath": "{}/fifo"},
            {"vaultCACertPath": "/dev/zero"},
            {"vaultCACertPath": "relative"},
            {"vaultCADirectory": "{}/bad"},
            {"vaultCADirectory": "{}/ca.pem"},
            {"vaultCADirectory": "/etc"},
            {"vaultTLSClientCertPath": "{}/client.crt", "vaultTLSClientKeyPath": "{}/server.key"},
            {"vaultTLSClientCertPath": "{}/fifo", "vaultTLSClientKeyPath": "{}/fifo"},
        ],
    )
    async def test_error_does_not_depend_on_why_a_file_of_a_class_cannot_be_used(
        self, tmp_path: Path, parameters: dict[str, str]
    ) -> None:
        """It would show the author of a SecretProviderClass which files exist on the node."""
        made = VaultCertificates(tmp_path)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "hello").write_text("Hello")
        (tmp_path / "bad" / "damaged").write_text(made.authority.pem.decode().replace("M", "N"))
        (tmp_path / "outside").symlink_to("/etc/hostname")
        os.mkfifo(tmp_path / "fifo")
        paths = {key: value.format(tmp_path) for key, value in parameters.items()}
        restrictions = replace(UNRESTRICTED, file_folders=(str(tmp_path),))
        async with (
            running_vault(context=made.context()) as vault,
            vault_mounts(vault, restrictions=restrictions) as mounts,
        ):
            with pytest.raises(ClassInvalidError, match="cannot be used") as caught:
                await mounts.files(DB, **paths)
        assert Stage.TLS is caught.value.stage
        named = sorted(path for path in paths.values() if path in caught.value.problem)
        text = str(caught.value).replace(named[0], "PATH")
        assert (
            "error making mount request: the TLS file PATH of the SecretProviderClass cannot be "
            "used. Name a PEM file below a folder that --class-files-dirs permits. Keyferry logs "
            "the reason at verbosity 2."
        ) == text.replace("PATH/damaged", "PATH").replace("PATH/hello", "PATH")
        assert [] == vault.audit

    async def test_files_of_kubelet_are_never_used(self, tmp_path: Path) -> None:
        """Even if the administrator permits a parent folder: they belong to other pods."""
        made = VaultCertificates(tmp_path)
        victim = tmp_path / "kubelet/pods/victim/volumes/kubernetes.io~secret/tls"
        victim.mkdir(parents=True)
        (victim / "ca.crt").write_bytes(made.authority.pem)
        (tmp_path / "link").symlink_to(victim / "ca.crt")
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            for path in (victim / "ca.crt", tmp_path / "link"):
                call = mounts.call(
                    DB, vaultTLSServerName="test.domain.com", vaultCACertPath=str(path)
                )
                target = tmp_path / "kubelet/pods/own/volumes/kubernetes.io~csi/v/mount"
                with pytest.raises(ClassInvalidError, match="cannot be used"):
                    await mounts.provider.mount(replace(call, target_path=str(target)))

    @pytest.mark.parametrize(
        ("layer", "words"),
        [
            (TlsLayer(ca_file="{}/absent"), "absent cannot be read .No such file"),
            (TlsLayer(ca_file="{}/bad/hello"), "contains no PEM certificate"),
            (TlsLayer(ca_file="{}/fifo"), "it is not a regular file"),
            (TlsLayer(ca_folder="{}/bad"), "contains no PEM certificate"),
            (TlsLayer(ca_folder="{}/ca.pem"), "it is not a directory"),
            (
                TlsLayer(client_cert="{}/client.crt", client_key="{}/server.key"),
                "do not match or are not PEM",
            ),
        ],
    )
    async def test_unusable_tls_file_of_the_administrator_is_named(
        self, tmp_path: Path, layer: TlsLayer, words: str
    ) -> None:
        """With the reason."""
        made = VaultCertificates(tmp_path)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "hello").write_text("Hello")
        os.mkfifo(tmp_path / "fifo")
        named = {
            name: getattr(layer, name).format(tmp_path)
            for name in ("ca_file", "ca_folder", "client_cert", "client_key")
        }
        settings = VaultSettings(tls=(replace(layer, **named),))
        async with (
            running_vault(context=made.context()) as vault,
            vault_mounts(vault, settings=settings) as mounts,
        ):
            with pytest.raises(PlatformError, match=words) as caught:
                await mounts.files(DB)
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
        jobs = RecordingJobRunner()
        async with (
            running_vault(context=context) as vault,
            vault_mounts(vault, jobs=jobs) as mounts,
        ):
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
            assert [("client-pem", "shop")] * 2 == jobs.runs

    async def test_encrypted_client_key_is_refused_before_openssl_reads_it(
        self, tmp_path: Path
    ) -> None:
        """OpenSSL would derive a key from the empty password, for as long as the key asks."""
        made = VaultCertificates(tmp_path)
        key = encode_block("ENCRYPTED PRIVATE KEY", shrouded_key(pbe(0x7FFFFFFF)))
        secret = {"tls.crt": made.client.pem.decode(), "tls.key": key.decode()}
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            call = mounts.call(DB, vaultCACertPath=str(made.ca), vaultAuthMethod="cert")
            with pytest.raises(PlatformError, match="its private key is encrypted") as caught:
                await mounts.provider.mount(replace(call, secrets=secret))
            assert "not a matching certificate and key" in caught.value.problem
