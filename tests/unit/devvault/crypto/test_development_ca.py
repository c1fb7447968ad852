from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store

from keyferry_devvault.crypto.development_ca import CA_FILE, write_server_certificate


def authority_of(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())


@pytest.mark.parametrize(
    "host",
    [
        "contoso.vault.azure.net",
        "kv.vault.usgovcloudapi.net",
        "kv.vault.azure.cn",
        "kv.vault.microsoftazure.de",
        "kv.vault.local",
        "login.microsoftonline.com",
        "login.partner.microsoftonline.cn",
        "login.windows.net",
        "localhost",
    ],
)
def test_certificate_passes_a_strict_verification(tmp_path: Path, host: str) -> None:
    """For every host, by the rules of RFC 5280 and the web."""
    leaf = x509.load_pem_x509_certificate(write_server_certificate(tmp_path).read_bytes())
    policy = PolicyBuilder().store(Store([authority_of(tmp_path)])).time(datetime.now(UTC))
    chain = policy.build_server_verifier(x509.DNSName(host)).verify(leaf, [])
    assert [leaf, authority_of(tmp_path)] == chain


def test_the_authority_is_kept_and_the_certificate_renewed(tmp_path: Path) -> None:
    """A client that trusts the CA still trusts it after a restart."""
    first = write_server_certificate(tmp_path).read_bytes()
    authority = authority_of(tmp_path)
    assert first != write_server_certificate(tmp_path).read_bytes()
    assert authority == authority_of(tmp_path)


@pytest.mark.parametrize("broken", ["ca.pem", "ca.key"])
def test_damaged_ca_is_created_again(tmp_path: Path, broken: str) -> None:
    """A half-written folder heals itself."""
    write_server_certificate(tmp_path)
    authority = authority_of(tmp_path)
    (tmp_path / broken).write_text("garbage")
    write_server_certificate(tmp_path)
    assert authority != authority_of(tmp_path)


def test_ca_with_another_key_is_created_again(tmp_path: Path) -> None:
    """Certificate and key are replaced one after the other; a crash in between must not stay."""
    (tmp_path / "other").mkdir()
    write_server_certificate(tmp_path)
    write_server_certificate(tmp_path / "other")
    (tmp_path / "other" / "ca.key").replace(tmp_path / "ca.key")
    leaf = x509.load_pem_x509_certificate(write_server_certificate(tmp_path).read_bytes())
    key = authority_of(tmp_path).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    leaf.verify_directly_issued_by(authority_of(tmp_path))


def test_the_files_are_private(tmp_path: Path) -> None:
    """Nobody else may sign with the CA of a developer."""
    write_server_certificate(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {"ca.pem": 0o600, "ca.key": 0o600, "server.pem": 0o600} == modes
