"""Tests that any Key Vault must pass, real or emulated.

A test module inherits from `KeyVaultSuite` and has a fixture `vault`.
"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate, load_pem_x509_certificates

from keyferry.content import ObjectVersion
from keyferry.errors import ObjectNotFoundError
from tests.fakes.certificates import issue_certificate, new_ec_key, new_rsa_key
from tests.fakes.keyvault_peer import KeyVaultPeer, entry, mount_entries

PEM = "application/x-pem-file"
PKCS12 = "application/x-pkcs12"
CURVES = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "P-256K": ec.SECP256K1,
}


class KeyVaultSuite:
    """The tests."""

    async def test_secrets_are_delivered_by_name_alias_and_version(
        self, vault: KeyVaultPeer
    ) -> None:
        """The version is the vault's. An old version is available on request."""
        old = await vault.set_secret("secret1", "old")
        new = await vault.set_secret("secret1", "test")
        result = await mount_entries(
            vault,
            entry("secret", "secret1"),
            entry("secret", "secret1", objectAlias="SECRET_1"),
            entry("secret", "secret1", objectAlias="old", objectVersion=old),
        )
        found = {file.path: file.contents for file in result.files}
        assert {"secret1": b"test", "SECRET_1": b"test", "old": b"old"} == found
        assert {new, old} == {version.version for version in result.versions}

    @pytest.mark.parametrize("kind", ["RSA", "EC"])
    async def test_keys_are_delivered_as_public_pem(self, vault: KeyVaultPeer, kind: str) -> None:
        """The version is the vault's."""
        version = await vault.create_key("key1", kind, "P-256")
        result = await mount_entries(vault, entry("key", "key1", objectAlias="KEY_1"))
        (file,) = result.files
        expected = rsa.RSAPublicKey if kind == "RSA" else ec.EllipticCurvePublicKey
        assert isinstance(load_pem_public_key(file.contents), expected)
        assert (ObjectVersion("key/key1", version),) == result.versions

    @pytest.mark.parametrize("curve", list(CURVES))
    async def test_keys_of_every_curve_are_delivered(self, vault: KeyVaultPeer, curve: str) -> None:
        """Including secp256k1, which upstream rejects."""
        await vault.create_key("key1", "EC", curve)
        (file,) = (await mount_entries(vault, entry("key", "key1"))).files
        key = load_pem_public_key(file.contents)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, CURVES[curve])

    @pytest.mark.parametrize("content_type", [PEM, PKCS12])
    @pytest.mark.parametrize("make_key", [new_rsa_key, new_ec_key], ids=["RSA", "EC"])
    async def test_certificate_key_and_secret_of_one_name_match(
        self, vault: KeyVaultPeer, make_key: object, content_type: str
    ) -> None:
        """The leaf, the public key, and the bundle with the private key first."""
        made = issue_certificate(
            "test.domain.com", new_rsa_key() if make_key is new_rsa_key else new_ec_key()
        )
        content = made.key_pem + made.pem if content_type == PEM else made.pkcs12()
        version = await vault.import_certificate("web", content, content_type)
        result = await mount_entries(
            vault,
            entry("cert", "web", objectAlias="leaf"),
            entry("key", "web", objectAlias="public"),
            entry("secret", "web", objectAlias="bundle"),
        )
        leaf, public, bundle = (file.contents for file in result.files)
        assert made.certificate == load_pem_x509_certificate(leaf)
        assert made.key.public_key() == load_pem_public_key(public)
        assert made.key.public_key() == load_pem_private_key(bundle, None).public_key()
        assert [made.certificate] == load_pem_x509_certificates(bundle)
        assert [version] * 3 == [found.version for found in result.versions]

    async def test_pkcs12_is_delivered_as_text_and_as_bytes(self, vault: KeyVaultPeer) -> None:
        """The bytes are the decoded text."""
        made = issue_certificate("test.domain.com", new_ec_key())
        await vault.import_certificate("web", made.pkcs12(), PKCS12)
        result = await mount_entries(
            vault,
            entry("secret", "web", objectAlias="text", objectFormat="PFX"),
            entry("secret", "web", objectAlias="a", objectFormat="pfx", objectEncoding="base64"),
            entry("secret", "web", objectAlias="b", objectFormat="pkcs12"),
        )
        text, decoded, binary = (file.contents for file in result.files)
        assert base64.b64decode(text) == decoded == binary

    async def test_history_has_the_latest_versions_first(self, vault: KeyVaultPeer) -> None:
        """Disabled versions are skipped, and it may begin at any version."""
        ids = [await vault.set_secret("secret1", text) for text in "edcba"]
        await vault.disable("secrets", "secret1", ids[3])
        result = await mount_entries(
            vault,
            entry("secret", "secret1", objectVersionHistory=3),
            entry(
                "secret", "secret1", objectVersionHistory=9, objectVersion=ids[2], objectAlias="f/c"
            ),
        )
        found = {file.path: file.contents.decode() for file in result.files}
        first = {"secret1/0": "a", "secret1/1": "c", "secret1/2": "d"}
        assert first | {"f/c/0": "c", "f/c/1": "d", "f/c/2": "e"} == found
        expected = [ObjectVersion(f"secret/secret1/{n}", ids[at]) for n, at in enumerate((4, 2, 1))]
        assert expected == list(result.versions[:3])

    @pytest.mark.parametrize("type_", ["key", "cert"])
    async def test_keys_and_certificates_have_a_history(
        self, vault: KeyVaultPeer, type_: str
    ) -> None:
        """Each file contains another version."""
        for _ in range(2):
            made = issue_certificate("test.domain.com", new_ec_key())
            await vault.import_certificate("web", made.key_pem + made.pem, PEM)
        result = await mount_entries(vault, entry(type_, "web", objectVersionHistory=5))
        assert ["web/0", "web/1"] == [file.path for file in result.files]
        assert 2 == len({file.contents for file in result.files})

    async def test_history_is_read_beyond_the_first_page(self, vault: KeyVaultPeer) -> None:
        """A page has 25 versions."""
        for number in range(60):
            await vault.set_secret("secret1", str(number))
        result = await mount_entries(vault, entry("secret", "secret1", objectVersionHistory=100))
        assert [str(number) for number in reversed(range(60))] == [
            file.contents.decode() for file in result.files
        ]

    @pytest.mark.parametrize("collection", ["secrets", "keys"])
    async def test_disabled_version_is_rejected(self, vault: KeyVaultPeer, collection: str) -> None:
        """Also the current version, if older ones are enabled."""
        if collection == "keys":
            version = await vault.create_key("x", "EC", "P-256")
        else:
            version = await vault.set_secret("x", "v")
        await vault.disable(collection, "x", version)
        words = "x is disabled in vault" if vault.reports_disabled else "x does not exist in vault"
        with pytest.raises(ObjectNotFoundError, match=words):
            await mount_entries(vault, entry(collection.removesuffix("s"), "x"))

    async def test_deleted_secret_is_not_found(self, vault: KeyVaultPeer) -> None:
        """Although it could be recovered."""
        await vault.set_secret("x", "v")
        await vault.delete("secrets", "x")
        with pytest.raises(ObjectNotFoundError, match="secret x does not exist in vault"):
            await mount_entries(vault, entry("secret", "x"))

    @pytest.mark.parametrize("type_", ["secret", "key", "cert"])
    async def test_missing_object_is_not_found(self, vault: KeyVaultPeer, type_: str) -> None:
        """For every type, with and without a history."""
        for fields in ({}, {"objectVersionHistory": 2}):
            with pytest.raises(ObjectNotFoundError, match=f"{type_} nowhere does not exist"):
                await mount_entries(vault, entry(type_, "nowhere", **fields))

    async def test_history_from_an_unknown_version_is_an_error(self, vault: KeyVaultPeer) -> None:
        """Upstream delivers nothing, without an error."""
        await vault.set_secret("x", "v")
        wanted = entry("secret", "x", objectVersionHistory=2, objectVersion="0" * 32)
        with pytest.raises(ObjectNotFoundError, match="not among its 1 enabled versions"):
            await mount_entries(vault, wanted)
