"""keyferry.vault on the way: TLS, Unix sockets, redirects, namespaces, further auth methods."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    Hop,
    IdentityError,
    KeyferryError,
    ObjectNotFoundError,
    PlatformError,
    VaultError,
    VaultThrottledError,
)
from keyferry.metrics import Metrics
from keyferry.vault.product import OPENBAO
from keyferry.vault.tls import TlsContexts
from keyferry.vault_settings import TlsLayer, VaultSettings
from tests.fakes.clock import StillClock
from tests.fakes.log import captured_log
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import TestPod, VaultMounts, entry, vault_mounts
from tests.fakes.vault_peer import Issued, issue, new_ec

DB = entry("db", "secret/data/app/db", secretKey="password")
POLICY = {"secret/data/app/*": {"read"}, "secret/app/*": {"read"}, "kv/*": {"read"}}


def prepare(vault: VaultApi) -> None:
    vault.add_role("app", accounts=["shop/web"], policy=POLICY)
    vault.write("secret", "app/db", {"password": "canary-1"})
    vault.write("kv", "old", {"password": "canary-2"})


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    async with running_vault() as running:
        prepare(running)
        yield running


@pytest.fixture
async def mounts(vault: VaultApi) -> AsyncIterator[VaultMounts]:
    async with vault_mounts(vault) as found:
        yield found


class Certificates:
    """A CA, a server and a client, as files."""

    def __init__(self, folder: Path, *, identifiers: bool = True) -> None:
        self.authority = issue("ca", new_ec(), authority=True, identifiers=identifiers)
        self.server = self._file(folder, "server", identifiers=identifiers)
        self.client = self._file(folder, "client", identifiers=identifiers)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.authority.pem)
        self.folder = folder

    def _file(self, folder: Path, name: str, *, identifiers: bool) -> Issued:
        made = issue(name, new_ec(), self.authority, identifiers=identifiers)
        (folder / f"{name}.crt").write_bytes(made.pem)
        (folder / f"{name}.key").write_bytes(made.key_pem)
        return made

    def context(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """Of the server, whose name is test.domain.com."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        if wants_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


NAME = {"vaultTLSServerName": "test.domain.com"}


class TestTls:
    """Who the vault is, and who we are."""

    async def test_a_private_ca_is_trusted_where_it_is_named(self, tmp_path: Path) -> None:
        """By a class as a file or a folder, by a flag, by the environment as text."""
        made = Certificates(tmp_path)
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
                    assert await mounts.files(DB, **NAME, **parameters)
            for layer in (
                TlsLayer(ca_file=str(made.ca), server_name="test.domain.com"),
                TlsLayer(ca_pem=made.authority.pem.decode(), server_name="test.domain.com"),
            ):
                async with vault_mounts(vault, settings=VaultSettings(tls=(layer,))) as mounts:
                    assert await mounts.files(DB)

    async def test_a_private_ca_without_key_identifiers_is_trusted_too(
        self, tmp_path: Path
    ) -> None:
        """Python 3.13 would refuse it, Go does not."""
        made = Certificates(tmp_path, identifiers=False)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            assert await mounts.files(DB, **NAME, vaultCACertPath=str(made.ca))

    async def test_without_it_nothing_is_sent(self, tmp_path: Path) -> None:
        """The error names the parameter; the same with a name that is not in the certificate."""
        made = Certificates(tmp_path)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            with pytest.raises(ConnectionFailedError, match="vaultCACertPath") as caught:
                await mounts.files(DB, **NAME)
            assert Hop.TLS is caught.value.hop
            with pytest.raises(ConnectionFailedError, match="vaultTLSServerName"):
                await mounts.files(DB, vaultCACertPath=str(made.ca))
            assert [] == vault.audit

    async def test_skipping_verification_is_loud(self, tmp_path: Path) -> None:
        """Once for each way of speaking to a vault."""
        made = Certificates(tmp_path)
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
        series = f'keyferry_unverified_vault{{os_type="linux",vault="{host}"}} 1.0'
        assert series in metrics.exposition().decode()

    async def test_two_server_names_never_share_a_connection(self, tmp_path: Path) -> None:
        """What was verified for one class says nothing about another."""
        made = Certificates(tmp_path)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            ca = {"vaultCACertPath": str(made.ca)}
            assert await mounts.files(DB, **NAME, **ca)
            with pytest.raises(ConnectionFailedError, match="another name"):
                await mounts.files(DB, vaultTLSServerName="other.domain.com", **ca)

    async def test_mounts_that_start_together_share_connections(self, tmp_path: Path) -> None:
        """They speak TLS by one context."""
        made = Certificates(tmp_path)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            server = mounts.server(**NAME, vaultCACertPath=str(made.ca))
            contexts = TlsContexts()
            found = await asyncio.gather(*(contexts.of(server) for _ in range(20)))
            assert 1 == len(set(map(id, found)))

    async def test_a_changed_ca_file_counts_at_once(self, tmp_path: Path) -> None:
        """Nobody restarts anything when a CA is renewed."""
        made = Certificates(tmp_path)
        ca = tmp_path / "mounted.pem"
        ca.write_bytes(issue("old", new_ec(), authority=True).pem)
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            with pytest.raises(ConnectionFailedError):
                await mounts.files(DB, **NAME, vaultCACertPath=str(ca))
            ca.write_bytes(made.authority.pem + b"\n")
            assert await mounts.files(DB, **NAME, vaultCACertPath=str(ca))

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"vaultCACertPath": "{}/absent"}, "absent cannot be read"),
            ({"vaultCACertPath": "{}/bad/hello"}, "holds no PEM certificate"),
            ({"vaultCADirectory": "{}/bad"}, "holds no PEM certificate"),
            ({"vaultCADirectory": "{}/ca.pem"}, "it is no folder"),
            (
                {
                    "vaultTLSClientCertPath": "{}/client.crt",
                    "vaultTLSClientKeyPath": "{}/server.key",
                },
                "cannot be used with its key",
            ),
        ],
    )
    async def test_files_that_cannot_be_used_are_named(
        self, tmp_path: Path, parameters: dict[str, str], words: str
    ) -> None:
        """With the reason."""
        made = Certificates(tmp_path)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "hello").write_text("Hello")
        async with running_vault(context=made.context()) as vault, vault_mounts(vault) as mounts:
            paths = {key: value.format(tmp_path) for key, value in parameters.items()}
            with pytest.raises(PlatformError, match=words) as caught:
                await mounts.files(DB, **paths)
            assert Hop.TLS is caught.value.hop

    async def test_openbao_passes_over_what_is_no_certificate(self, tmp_path: Path) -> None:
        """In a folder."""
        made = Certificates(tmp_path)
        (tmp_path / "README").write_text("Hello")
        context = made.context()
        async with (
            running_vault(context=context) as vault,
            vault_mounts(vault, product=OPENBAO) as mounts,
        ):
            prepare(vault)
            pod = TestPod(audience="openbao")
            vault.add_role("app", accounts=["shop/web"], policy=POLICY, audience="openbao")
            assert await mounts.files(DB, pod=pod, **NAME, baoCADirectory=str(tmp_path))

    async def test_a_certificate_can_log_in(self, tmp_path: Path) -> None:
        """Out of the pod's Secret, or of files; no other one is accepted."""
        made = Certificates(tmp_path)
        der = made.client.certificate.public_bytes(Encoding.DER)
        fingerprint = hashlib.sha256(der).hexdigest()
        context = made.context(wants_client=True)
        async with running_vault(context=context) as vault, vault_mounts(vault) as mounts:
            prepare(vault)
            vault.add_role("web", mount="cert", policy=POLICY, fingerprint=fingerprint)
            secret = {"tls.crt": made.client.pem.decode(), "tls.key": made.client.key_pem.decode()}
            cert: dict[str, Any] = {
                **NAME,
                "vaultCACertPath": str(made.ca),
                "vaultAuthMethod": "cert",
            }
            call = mounts.call(DB, **cert)
            assert (await mounts.provider.mount(replace(call, secrets=secret))).files
            other = issue("other", new_ec(), made.authority)
            secret = {"tls.crt": other.pem.decode(), "tls.key": other.key_pem.decode()}
            with pytest.raises(IdentityError, match="the certificate is not accepted"):
                await mounts.provider.mount(replace(call, secrets=secret))


class TestWays:
    """Sockets, redirects, namespaces, headers."""

    async def test_a_vault_behind_a_unix_socket(self, tmp_path: Path) -> None:
        """An agent beside us, in plain HTTP; the variable for it beats a class."""
        async with running_vault(socket=tmp_path / "agent.sock") as vault:
            prepare(vault)
            address = vault.parameters["vaultAddress"]
            async with vault_mounts(vault) as mounts:
                assert await mounts.files(DB)
            vault.parameters["vaultAddress"] = "https://nowhere.test"
            settings = VaultSettings(agent_address=address)
            async with vault_mounts(vault, settings=settings) as mounts:
                assert await mounts.files(DB)
            assert "true" == vault.headers["X-Vault-Request"]
            assert "Content-Type" not in vault.headers

    async def test_one_redirect_is_followed(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """A standby names the active node; none, where redirects are off."""
        async with running_vault() as standby:
            standby.redirect_to = vault.parameters["vaultAddress"]
            where = {"vaultAddress": standby.parameters["vaultAddress"]}
            assert await mounts.files(DB, **where)
            vault.redirect_to = standby.parameters["vaultAddress"]
            with pytest.raises(VaultError, match="redirects more than once"):
                await mounts.files(entry("x", "secret/data/app/x"), **where)

    @pytest.mark.parametrize("target", ["", "ftp://x", "http://[", "//"])
    async def test_a_redirect_to_nowhere_is_an_error(
        self, vault: VaultApi, mounts: VaultMounts, target: str
    ) -> None:
        vault.redirect_to = target or "?"
        with pytest.raises(KeyferryError):
            await mounts.files(DB)

    async def test_tls_is_never_left(self, tmp_path: Path, vault: VaultApi) -> None:
        """A token would travel in the open."""
        made = Certificates(tmp_path)
        async with running_vault(context=made.context()) as secure, vault_mounts(secure) as mounts:
            secure.redirect_to = vault.parameters["vaultAddress"]
            with pytest.raises(VaultError, match="from https to http"):
                await mounts.files(DB, **NAME, vaultCACertPath=str(made.ca))
        assert [] == vault.audit

    async def test_the_namespace_is_sent(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """With the login and with each read."""
        vault.namespace = "team/a"
        assert await mounts.files(DB, vaultNamespace="team/a")
        with pytest.raises(IdentityError, match="namespace team/b refuses"):
            await mounts.files(DB, vaultNamespace="team/b")

    async def test_headers_of_the_settings_are_sent(self, vault: VaultApi) -> None:
        """And cannot take the place of our own."""
        settings = VaultSettings(headers=(("X-Team", "shop"),))
        async with vault_mounts(vault, settings=settings) as mounts:
            await mounts.files(DB)
        assert "shop" == vault.headers["X-Team"]

    async def test_an_app_role_can_log_in(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """A wrong secret id is told from a wrong role of a service account."""
        vault.add_role("x", mount="approle", policy=POLICY, secret=("r", "canary-s"))
        secrets = {"role_id": "r", "secret_id": "canary-s"}
        assert await mounts.files(DB, secrets=secrets, vaultAuthMethod="approle", roleName="")
        with pytest.raises(IdentityError, match="the secret id or the role id") as caught:
            await mounts.files(
                DB, secrets={**secrets, "secret_id": "canary-x"}, vaultAuthMethod="approle"
            )
        assert "canary" not in str(caught.value)


class TestRefusals:
    """What a vault says, and what that means."""

    @pytest.mark.parametrize(
        ("status", "text", "words", "kind"),
        [
            (503, "Vault is sealed", "is sealed", VaultError),
            (503, "Vault is in standby mode", "is a standby node", VaultError),
            (500, "pq: role does not exist", "failed with status 500: pq: role", VaultError),
            (429, "rate limit", "throttles", VaultThrottledError),
            (412, "required index state not present", "has not yet seen", VaultError),
        ],
    )
    async def test_later_is_tried_again_and_told(
        self, vault: VaultApi, status: int, text: str, words: str, kind: type[VaultError]
    ) -> None:
        """After some tries."""
        clock = StillClock()
        async with vault_mounts(vault, clock=clock) as mounts:
            await mounts.files(DB)
            vault.trouble = (status, [text])
            with pytest.raises(kind, match=words):
                await mounts.files(DB)
        assert len(vault.audit) > 3
        assert clock.pauses

    async def test_a_write_is_not_repeated_when_it_may_have_been_done(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """A certificate nobody gets would be issued each time."""
        await mounts.files(DB)
        before = len(vault.audit)
        vault.trouble = (502, ["bad gateway"])
        with pytest.raises(VaultError, match="502"):
            await mounts.files(entry("x", "pki/issue/r", method="PUT", secretArgs={"a": 1}))
        assert before + 1 == len(vault.audit)

    @pytest.mark.parametrize(
        ("path", "words", "kind"),
        [
            ("secret/app/db", "Set secretPath to secret/data/app/db", ObjectNotFoundError),
            ("kv/data/old", "Set secretPath to kv/old", ObjectNotFoundError),
            ("kv/none", "there is nothing at kv/none", ObjectNotFoundError),
            ("secret/data/app/none", "there is nothing at", ObjectNotFoundError),
            ("secret/data/zzz", 'path "secret/data/zzz"', AccessDeniedError),
            ("secret/zzz", "Set secretPath to secret/data/zzz", ObjectNotFoundError),
        ],
    )
    async def test_a_path_that_is_wrong_is_told_with_the_right_one(
        self, mounts: VaultMounts, path: str, words: str, kind: type[VaultError]
    ) -> None:
        """The mistake with data/, in both directions, even where the policy hides the path."""
        with pytest.raises(kind, match=words) as caught:
            await mounts.files(entry("x", path))
        assert str(caught.value).startswith("error making mount request: ")

    @pytest.mark.parametrize(
        ("over", "account", "words"),
        [
            ({"roleName": "nope"}, "shop/web", "there is no such role"),
            ({}, "shop/other", "service account name not authorized"),
            ({}, "else/web", "namespace not authorized"),
            ({"vaultAuthMountPath": "nope"}, "shop/web", "auth/nope exists"),
        ],
    )
    async def test_a_login_that_is_refused_is_told_with_the_vaults_words(
        self, mounts: VaultMounts, over: dict[str, str], account: str, words: str
    ) -> None:
        """And with what mends it."""
        with pytest.raises(IdentityError, match=words):
            await mounts.files(DB, pod=TestPod(account=account), **over)

    async def test_an_audience_that_is_wrong_is_told(self, mounts: VaultMounts) -> None:
        with pytest.raises(IdentityError, match="for another audience"):
            await mounts.files(DB, pod=TestPod(audience="other"), audience="other")

    async def test_without_a_token_it_says_where_it_would_come_from(
        self, mounts: VaultMounts
    ) -> None:
        with pytest.raises(IdentityError, match=r"spec\.tokenRequests"):
            await mounts.files(DB, audience="other")

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "has no data"),
            (b"{}", "has no data"),
            (b"null", "cannot be used"),
            (b"<html>canary</html>", "cannot be used"),
            (b'{"data": "canary"}', "cannot be used"),
            (b'{"lease_id": 7, "data": {}}', "cannot be used"),
            (b'{"errors": ["x"], "canary": 1}', "cannot be used"),
        ],
    )
    async def test_an_answer_that_is_none_is_an_error(
        self, vault: VaultApi, mounts: VaultMounts, body: bytes, words: str
    ) -> None:
        """The original's process dies of some of them; nothing is quoted."""
        await mounts.files(DB)
        vault.script = [(200, body)]
        with pytest.raises(VaultError, match=words) as caught:
            await mounts.files(DB)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        "body", [b"{}", b'{"auth": {}}', b'{"auth": {"client_token": ""}}', b'{"auth": "x"}']
    )
    async def test_a_login_that_grants_nothing_is_an_error(
        self, vault: VaultApi, mounts: VaultMounts, body: bytes
    ) -> None:
        vault.script = [(200, body)]
        with pytest.raises(IdentityError, match="cannot be used"):
            await mounts.files(DB)

    async def test_a_body_without_envelope_is_data(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """As some paths answer."""
        await mounts.files(DB)
        vault.script = [(200, b'{"keys": [{"kty": "RSA"}]}')]
        found = await mounts.files(entry("k", "identity/oidc/keys", secretKey="/keys/0/kty"))
        assert {"k": b"RSA"} == found
