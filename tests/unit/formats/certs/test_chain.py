"""keyferry.formats.certs.chain: whose issuer is whose, whatever the order."""

from __future__ import annotations

import subprocess
from itertools import pairwise, permutations
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.errors import SecretDataError
from keyferry.formats.certs.chain import order_chain
from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key

KEYS = [new_ec_key() for _ in range(10)]


def line(length: int, *, identifiers: bool = True) -> list[IssuedCertificate]:
    """A chain from the leaf to its root."""
    signer: IssuedCertificate | None = None
    made = []
    for number in reversed(range(length)):
        signer = issue_certificate(
            f"c{number}",
            KEYS[number],
            signer,
            is_ca=number > 0,
            key_identifiers=identifiers or number > 0,
        )
        made.append(signer)
    return made[::-1]


CHAIN = line(10)
NO_IDENTIFIERS = line(4, identifiers=False)
# Two roots of one name and key: its own, and one that another root has signed.
OTHER_ROOT = issue_certificate("other", KEYS[9], is_ca=True)
ROOT = issue_certificate("root", KEYS[8], is_ca=True)
CROSS = issue_certificate("root", KEYS[8], OTHER_ROOT, is_ca=True)
MIDDLE = issue_certificate("middle", KEYS[7], ROOT, is_ca=True)
LEAF = issue_certificate("leaf", KEYS[0], MIDDLE)
# Of the name of the middle one, but not with its key.
FALSE_MIDDLE = issue_certificate("middle", KEYS[6], ROOT, is_ca=True)


def certificates(issued: list[IssuedCertificate]) -> list[x509.Certificate]:
    return [each.certificate for each in issued]


def ordered(
    issued: list[IssuedCertificate], leaf: IssuedCertificate | None = None
) -> list[x509.Certificate]:
    key = leaf.key.public_key() if leaf else None
    return list(order_chain(certificates(issued), key).certificates)


@pytest.mark.parametrize("chain", [CHAIN[7:], NO_IDENTIFIERS], ids=["3", "leaf without SKI"])
def test_every_order_becomes_leaf_to_root(chain: list[IssuedCertificate]) -> None:
    """As upstream's table has it; the leaf is found without its key too."""
    for shuffled in permutations(chain):
        assert certificates(chain) == ordered(list(shuffled))


@given(st.integers(1, 10).flatmap(lambda length: st.permutations(range(10 - length, 10))))
@settings(deadline=None)
def test_a_chain_of_any_length_and_order_is_put_in_order(numbers: list[int]) -> None:
    """Up to ten certificates; the first of the line is the leaf."""
    expected = certificates([CHAIN[number] for number in sorted(numbers)])
    shuffled = [CHAIN[number] for number in numbers]
    found = order_chain(certificates(shuffled), None)
    assert (expected, True) == (list(found.certificates), found.complete)


POOL = [*CHAIN, ROOT, CROSS, MIDDLE, LEAF, FALSE_MIDDLE, OTHER_ROOT]


@given(st.lists(st.sampled_from(POOL), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_whatever_comes_the_leaf_is_first_and_nothing_is_lost(
    issued: list[IssuedCertificate], data: st.DataObject
) -> None:
    """Missing ones, strangers, cross-signed ones, duplicates: each certificate comes once."""
    leaf = data.draw(st.sampled_from(issued))
    found = ordered(issued, leaf)
    assert set(certificates(issued)) == set(found)
    assert len(set(found)) == len(found)
    assert leaf.key.public_key() == found[0].public_key()


@given(st.lists(st.sampled_from(POOL), min_size=1, max_size=12))
@settings(deadline=None)
def test_a_complete_chain_is_one_line_of_signatures(issued: list[IssuedCertificate]) -> None:
    """Each certificate is signed by the next one."""
    chain = order_chain(certificates(issued), None)
    if chain.complete:
        for certificate, issuer in pairwise(chain.certificates):
            certificate.verify_directly_issued_by(issuer)


@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_gap_leaves_the_rest_in_its_order(missing: int) -> None:
    """Leaf first; what it does not lead to stays as it came, and the chain is not complete."""
    rest = CHAIN[:missing] + CHAIN[missing + 1 :]
    found = order_chain(certificates(rest), None)
    assert (certificates(rest), False) == (list(found.certificates), found.complete)


def test_duplicates_count_once() -> None:
    """Upstream finds no order then, or no leaf."""
    assert certificates([LEAF, MIDDLE, ROOT]) == ordered([ROOT, LEAF, MIDDLE, ROOT, LEAF])
    assert certificates([ROOT]) == ordered([ROOT, ROOT])


def test_a_name_is_not_enough() -> None:
    """An issuer must have signed; the false one stays behind."""
    mixed = certificates([FALSE_MIDDLE, ROOT, LEAF, MIDDLE])
    found = order_chain(mixed, LEAF.key.public_key())
    assert certificates([LEAF, MIDDLE, ROOT]) == list(found.certificates[:3])
    assert not found.complete


def test_a_cross_signed_root_leads_on() -> None:
    """Of two issuers the one is taken that has an issuer itself; the other comes last."""
    for shuffled in permutations([LEAF, MIDDLE, CROSS, ROOT, OTHER_ROOT]):
        expected = certificates([LEAF, MIDDLE, CROSS, OTHER_ROOT, ROOT])
        assert expected == ordered(list(shuffled), LEAF)


def test_two_that_signed_each_other_are_no_trap() -> None:
    """The search terminates, and the key identifies the leaf."""
    first, second = (
        issue_certificate("a", KEYS[0], is_ca=True),
        issue_certificate("b", KEYS[1], is_ca=True),
    )
    first_by_second = issue_certificate("a", KEYS[0], second, is_ca=True)
    second_by_first = issue_certificate("b", KEYS[1], first, is_ca=True)
    expected = certificates([second_by_first, first_by_second])
    assert expected == ordered([first_by_second, second_by_first], second_by_first)


def test_key_identifies_the_leaf() -> None:
    """Of several that issued no other."""
    stranger = issue_certificate("stranger", KEYS[5])
    assert LEAF.certificate == ordered([stranger, MIDDLE, LEAF, ROOT], LEAF)[0]


def test_no_certificate_has_no_leaf() -> None:
    """The words are upstream's."""
    with pytest.raises(SecretDataError, match="no leaf found"):
        order_chain([], None)


def test_openssl_verifies_what_was_put_in_order(tmp_path: Path) -> None:
    """Leaf, intermediates as untrusted, root as trusted."""
    leaf, *between, root = ordered(CHAIN[::-1])
    pem = Encoding.PEM
    (tmp_path / "leaf").write_bytes(leaf.public_bytes(pem))
    (tmp_path / "root").write_bytes(root.public_bytes(pem))
    (tmp_path / "between").write_bytes(b"".join(each.public_bytes(pem) for each in between))
    command = ["openssl", "verify", "-CAfile", "root", "-untrusted", "between", "leaf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert b"leaf: OK\n" == done.stdout


def test_number_of_signature_checks_is_limited() -> None:
    """Certificates with one name make every pair a candidate."""
    same = [issue_certificate("same", new_ec_key(), is_ca=True)]
    for _ in range(60):
        same.append(issue_certificate("same", new_ec_key(), same[-1], is_ca=True))
    with pytest.raises(SecretDataError, match="signature checks"):
        order_chain([each.certificate for each in same], None)
    assert order_chain([each.certificate for each in same[:20]], None).complete


def test_names_that_the_library_refuses_are_compared() -> None:
    """A certificate may name itself in bytes that are not the text they claim to be."""
    strange = ROOT.certificate.public_bytes(Encoding.DER).replace(b"root", b"r\xff\xfft")
    certificate = x509.load_der_x509_certificate(strange)
    with pytest.raises(ValueError, match="parsing"):
        _ = certificate.subject
    found = order_chain([certificate, LEAF.certificate], None)
    assert {certificate, LEAF.certificate} == set(found.certificates)
