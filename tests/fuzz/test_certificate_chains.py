"""Chains of certificates as vaults may hold them, with the openssl program as the judge."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from keyferry.errors import SecretDataError
from keyferry.formats.certs import chain
from keyferry.formats.certs.bundle import pkcs12_to_pem, split_pem
from keyferry.formats.certs.chain import order_chain
from tests.fakes.certificates import (
    IssuedCertificate,
    PrivateKey,
    issue_certificate,
    new_ec_key,
    new_rsa_key,
)

LONGEST = 10
OF_CHAINS = max(settings().max_examples // 5, 100)
"""Cases of chains: there are fewer shapes of them than of answers, and each has many signatures."""
OF_OPENSSL = max(settings().max_examples // 50, 10)
"""Cases for the tests that start processes."""

KEYS: list[PrivateKey] = [new_ec_key() for _ in range(LONGEST)]
RSA_KEYS: list[PrivateKey] = [new_rsa_key() for _ in range(3)]


def line(name: str, keys: list[PrivateKey], *, identifiers: bool = True) -> list[IssuedCertificate]:
    """A chain from the leaf to its root, one certificate a key."""
    made: list[IssuedCertificate] = []
    for number, key in reversed(list(enumerate(keys))):
        signer = made[-1] if made else None
        made.append(
            issue_certificate(
                f"{name}{number}",
                key,
                signer,
                is_ca=number > 0,
                key_identifiers=identifiers or number > 0,
            )
        )
    return made[::-1]


LONG = line("long", KEYS)
SHORT = line("rsa", RSA_KEYS)
BARE = line("bare", KEYS[:4], identifiers=False)
SELF_SIGNED = issue_certificate("alone", KEYS[5])
OTHER_ROOT = issue_certificate("other", KEYS[4], is_ca=True)
CROSS = issue_certificate("long9", KEYS[9], OTHER_ROOT, is_ca=True)
"""The root of the long chain once more, signed by another root."""
STRANGERS = [SELF_SIGNED, OTHER_ROOT, CROSS, BARE[1], SHORT[2]]

LINES = st.integers(1, LONGEST).map(lambda length: LONG[LONGEST - length :])
CHAINS = LINES | st.sampled_from([SHORT, SHORT[:2], BARE, [SELF_SIGNED], SHORT[2:]])


@dataclass(frozen=True)
class Held:
    """What a vault holds.

    Attributes:
        issued: the leaf, then the others in any order.
        chain: the line that the leaf belongs to.
    """

    issued: list[IssuedCertificate]
    chain: list[IssuedCertificate]

    @property
    def leaf(self) -> IssuedCertificate:
        return self.issued[0]

    @property
    def certificates(self) -> list[x509.Certificate]:
        """In the order of the vault, each as often as it is there."""
        return [each.certificate for each in self.issued]

    @property
    def expected(self) -> list[x509.Certificate] | None:
        """The chain in order, if it has no gap and nothing else is there; its end may lack."""
        line = [each.certificate for each in self.chain[: len(set(self.certificates))]]
        return line if set(line) == set(self.certificates) else None


@st.composite
def held(draw: st.DrawFn) -> Held:
    """Any order, gaps, strangers, cross-signed, duplicate and self-signed ones, up to ten long."""
    chain = draw(CHAINS)
    missing = draw(st.sets(st.sampled_from(range(len(chain))), max_size=2)) - {0}
    kept = [each for number, each in enumerate(chain) if number not in missing]
    strangers = draw(st.lists(st.sampled_from(STRANGERS), max_size=2))
    twice = draw(st.lists(st.sampled_from(kept), max_size=2))
    return Held([kept[0], *draw(st.permutations([*kept[1:], *strangers, *twice]))], chain)


@given(held())
@settings(max_examples=OF_CHAINS)
def test_the_leaf_is_first_and_nothing_is_lost(case: Held) -> None:
    """What leads on from the leaf comes after it; what does not, at the end."""
    found = order_chain(case.certificates, case.leaf.key.public_key())
    assert case.leaf.certificate == found.certificates[0]
    assert set(case.certificates) == set(found.certificates)
    assert len(set(case.certificates)) == len(found.certificates)
    if found.complete:
        for certificate, issuer in pairwise(found.certificates):
            certificate.verify_directly_issued_by(issuer)
    if case.expected is not None:
        assert (case.expected, True) == (list(found.certificates), found.complete)
    event("whole" if case.expected else "complete" if found.complete else "broken")


def of_two_names() -> list[IssuedCertificate]:
    """Certificates that name each other as issuers, but were signed by others."""
    made = [issue_certificate("a", new_ec_key(), is_ca=True)]
    for number in range(1, 60):
        signer = made[number * 7 % len(made)]
        made.append(issue_certificate("ab"[number % 5 == 0], new_ec_key(), signer, is_ca=True))
    return made


TWO_NAMES = of_two_names()
FEW_SIGNATURES = 10
"""A limit that a dozen certificates reach."""


@given(st.lists(st.sampled_from(TWO_NAMES), min_size=1, max_size=80), st.booleans())
@settings(max_examples=OF_CHAINS)
def test_number_of_signature_checks_is_bounded(found: list[IssuedCertificate], known: bool) -> None:
    """Names that are all equal make every pair a candidate."""
    certificates = [each.certificate for each in found]
    with pytest.MonkeyPatch.context() as patch:
        checks: list[tuple[x509.Certificate, x509.Certificate]] = []
        verify = chain._verify

        def counted(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
            checks.append((issuer, certificate))
            return verify(issuer, certificate)

        patch.setattr(chain, "_verify", counted)
        patch.setattr(chain, "MAX_SIGNATURES", FEW_SIGNATURES)
        try:
            key = found[0].key.public_key() if known else None
            ordered = order_chain(certificates, key).certificates
        except SecretDataError as error:
            event("too many")
            assert "signature checks" in error.problem  # noqa: PT017 - the only reason
        else:
            assert set(ordered) == set(certificates)
    assert len(checks) <= FEW_SIGNATURES
    assert len(set(checks)) == len(checks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@given(held())
@settings(max_examples=OF_OPENSSL, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_openssl_accepts_what_a_whole_chain_becomes(folder: Path, case: Held) -> None:
    """It reads the PKCS#12, verifies the chain, and finds the key of the leaf in the .key file."""
    others = [found for found in case.certificates if found != case.leaf.certificate]
    content = case.leaf.pkcs12(*dict.fromkeys(others))
    made = pkcs12_to_pem(content, "the object", ordered=True)
    certificates, key = split_pem(made.pem, "the object")
    (folder / "chain.pem").write_bytes(certificates)
    (folder / "key.pem").write_bytes(key)
    public = openssl(folder, "x509", "-in", "chain.pem", "-noout", "-pubkey")
    assert public == openssl(folder, "pkey", "-in", "key.pem", "-pubout")
    if case.leaf.key in RSA_KEYS:
        modulus = openssl(folder, "x509", "-in", "chain.pem", "-noout", "-modulus")
        assert modulus == openssl(folder, "rsa", "-in", "key.pem", "-noout", "-modulus")
    found = load_pem_x509_certificates(certificates)
    assert found == load_pem_x509_certificates(exported(folder))
    if case.expected is not None and len(found) > 1:
        assert "chain.pem: OK\n" == verified(folder, found)


def exported(folder: Path) -> bytes:
    """Key and certificates made into PKCS#12 by openssl, which refuses a pair that does not fit."""
    export = ["pkcs12", "-export", "-inkey", "key.pem", "-in", "chain.pem"]
    openssl(folder, *export, "-passout", "pass:", "-out", "bundle.p12")
    back = openssl(folder, "pkcs12", "-in", "bundle.p12", "-passin", "pass:", "-nodes", "-nokeys")
    return back.encode()


def verified(folder: Path, chain: list[x509.Certificate]) -> str:
    """What openssl says of the leaf, with the last certificate trusted, root or not."""
    write(folder / "root.pem", chain[-1:])
    write(folder / "between.pem", chain[1:])
    trust = ["-partial_chain", "-CAfile", "root.pem", "-untrusted", "between.pem"]
    return openssl(folder, "verify", *trust, "chain.pem")


def write(path: Path, certificates: list[x509.Certificate]) -> None:
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
