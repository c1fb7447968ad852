"""keyferry.formats.certs.jwk: from numbers to PEM, checked with the openssl program."""

from __future__ import annotations

import subprocess
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import SecretDataError
from keyferry.formats.certs.jwk import ec_public_key_pem, rsa_public_key_pem

CURVES = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
    "SECP256K1": ec.SECP256K1(),
}


def openssl(*arguments: str, given: bytes) -> str:
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True)
    return done.stdout.decode()


def test_an_rsa_key_has_its_modulus() -> None:
    """As openssl reads it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    n = key.public_numbers().n
    pem = rsa_public_key_pem(n.to_bytes(256), b"\x01\x00\x01")
    shown = openssl("rsa", "-pubin", "-noout", "-modulus", given=pem)
    assert f"Modulus={n:X}\n" == shown
    assert pem.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert pem.endswith(b"-----END PUBLIC KEY-----\n")


@pytest.mark.parametrize("name", list(CURVES))
def test_an_ec_key_is_the_same_point(name: str) -> None:
    """On every curve that vaults know; openssl takes it too."""
    key = ec.generate_private_key(CURVES[name]).public_key()
    numbers, length = key.public_numbers(), (key.curve.key_size + 7) // 8
    pem = ec_public_key_pem(name, numbers.x.to_bytes(length), numbers.y.to_bytes(length))
    assert key == load_pem_public_key(pem)
    assert pem.decode() == openssl("ec", "-pubin", given=pem)


def test_an_unknown_curve_is_named() -> None:
    """The words are upstream's."""
    with pytest.raises(SecretDataError, match="curve P-512 is not supported"):
        ec_public_key_pem("P-512", b"\1", b"\1")


@given(st.sampled_from([*CURVES, "", "x\n"]), st.binary(max_size=80), st.binary(max_size=80))
def test_numbers_become_a_key_or_our_error(name: str, x: bytes, y: bytes) -> None:
    """Points beside the curve, moduli of no size."""
    for attempt in (partial(ec_public_key_pem, name), rsa_public_key_pem):
        shown = ""
        try:
            attempt(x, y)
        except SecretDataError as error:
            shown = str(error)
        assert "\n" not in shown
