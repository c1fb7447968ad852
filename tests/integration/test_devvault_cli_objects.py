"""`keyferry devvault key` and `cert` as people use them, checked with the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from keyferry_devvault.cli.server import devvault
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.cli import invoke_cli


def keyferry(folder: Path, *words: str, stdin: str = "", fails: bool = False) -> str:
    """What a command prints; the error of its refusal where it `fails`."""
    result = invoke_cli(devvault, *words, "--data", str(folder), stdin=stdin)
    assert (fails, "" if fails else result.stdout) == (result.exit_code in {2, 3}, result.stdout)
    return result.stderr if fails else result.stdout


def openssl(*arguments: str, given: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], input=given.encode(), capture_output=True, check=True
    )
    return done.stdout.decode()


def test_a_key_is_made_listed_and_shown(tmp_path: Path) -> None:
    """A new vault opens to this machine, as one does that begins with a secret."""
    printed = keyferry(tmp_path, "key", "create", "shop", "k", "--kty", "EC", "--curve", "P-256K")
    assert "Created vault shop: " in printed
    assert "Created key k of vault shop, version " in printed
    assert "  true     EC    " in keyferry(tmp_path, "key", "list", "shop")
    shown = keyferry(tmp_path, "key", "get", "shop", "k")
    assert "secp256k1" in openssl("ec", "-pubin", "-noout", "-text", given=shown)


def test_a_key_is_imported_from_stdin(tmp_path: Path) -> None:
    """Its private half is never shown."""
    made = issue_certificate("x", new_ec_key())
    keyferry(tmp_path, "key", "import", "shop", "k", "-", stdin=made.key_pem.decode())
    expected = openssl("pkey", "-pubout", given=made.key_pem.decode())
    assert expected == keyferry(tmp_path, "key", "get", "shop", "k")


def test_a_certificate_of_the_development_ca_verifies(tmp_path: Path) -> None:
    """Against the CA that lies in the folder."""
    keyferry(tmp_path, "cert", "create", "shop", "web", "--host", "web.test", "--ca")
    shown = keyferry(tmp_path, "cert", "get", "shop", "web")
    verified = openssl("verify", "-CAfile", str(tmp_path / "ca.pem"), given=shown)
    assert "stdin: OK\n" == verified
    assert "DNS:web.test" in openssl("x509", "-noout", "-ext", "subjectAltName", given=shown)


def test_a_certificate_is_imported_from_pkcs12_with_a_password(tmp_path: Path) -> None:
    """As people get them by mail."""
    made = issue_certificate("test.domain.com", new_ec_key())
    (tmp_path / "all.pem").write_bytes(made.key_pem + made.pem)
    subprocess.run(
        ["openssl", "pkcs12", "-export", "-in", "all.pem", "-passout", "pass:p w", "-out", "a.pfx"],
        cwd=tmp_path,
        check=True,
    )
    words = ("cert", "import", "shop", "web", str(tmp_path / "a.pfx"))
    data = tmp_path / "data"
    assert "no certificate" in keyferry(data, *words, fails=True)
    keyferry(data, *words, "--password-file", "-", "--form", "pem", stdin="p w\n")
    assert made.pem.decode() == keyferry(data, "cert", "get", "shop", "web")
    value = keyferry(data, "get", "shop", "web", "--show-value")
    assert (made.key_pem + made.pem).decode().strip() == value.strip()


@pytest.mark.parametrize("noun", ["key", "cert"])
def test_an_object_is_disabled_deleted_recovered_and_purged(tmp_path: Path, noun: str) -> None:
    """Each step says what it did."""
    keyferry(tmp_path, noun, "create", "shop", "x", "--kty", "EC")
    assert "Disabled " in keyferry(tmp_path, noun, "disable", "shop", "x")
    assert "  false    EC    " in keyferry(tmp_path, noun, "list", "shop", "x")
    assert "Enabled " in keyferry(tmp_path, noun, "enable", "shop", "x")
    assert "Recover it with: keyferry devvault" in keyferry(tmp_path, noun, "delete", "shop", "x")
    assert "is deleted" in keyferry(tmp_path, noun, "get", "shop", "x", fails=True)
    assert "Recovered " in keyferry(tmp_path, noun, "delete", "shop", "x", "--recover")
    assert "Purged " in keyferry(tmp_path, noun, "delete", "shop", "x", "--purge")
    refused = keyferry(tmp_path, noun, "delete", "shop", "x", "--recover", fails=True)
    assert "there is no deleted " in refused


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("key", "create", "shop", "k", "--kty", "oct"), "no key type 'oct'"),
        (("key", "create", "shop", "k", "--size", "512"), "cannot have 512 bits"),
        (("key", "create", "shop", "a_b", "--kty", "EC"), "cannot be the name of a key"),
        (("key", "import", "shop", "k", "/nowhere"), "/nowhere cannot be read"),
        (("cert", "import", "shop", "k", "/nowhere"), "/nowhere cannot be read"),
        (("cert", "create", "shop", "k", "--kty", "EC", "--curve", "x"), "no curve 'x'"),
    ],
)
def test_what_cannot_be_is_an_error(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    """On stderr, with exit code 2."""
    result = invoke_cli(devvault, *words, "--data", str(tmp_path))
    assert (2, "") == (result.exit_code, result.stdout)
    assert problem in result.stderr
