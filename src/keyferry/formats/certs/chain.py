"""The order of a chain of certificates: the leaf first, then each one's issuer. [pure]

Names and signatures identify the issuer. Key identifiers, which upstream uses, are optional and not
authenticated.

Source: docs/reference/upstream-azure-provider.md#certificate-chain-order
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import SecretDataError
from keyferry.formats.certs.limits import (
    CertificateNames,
    certificate_names,
    check_object_count,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate

MAX_SIGNATURES = 1000
"""Signature checks for one chain. Unrelated certificates take none, related ones two or three."""


class CertificateChain(Struct, frozen=True):
    """Certificates in the order in which a TLS server sends them.

    Attributes:
        certificates: the leaf and its issuers, then unrelated certificates in their input order.
        complete: whether all certificates are part of the chain.
    """

    certificates: tuple[Certificate, ...]
    complete: bool


def order_chain(
    certificates: Sequence[Certificate], key: PublicKeyTypes | None
) -> CertificateChain:
    """Order certificates and drop duplicates.

    Args:
        certificates: in any order.
        key: public key of the leaf, if the private key is known; None selects the first
            certificate that issued no other.

    Raises:
        SecretDataError: there is no certificate, or ordering them takes too many signature checks.
    """
    rest = list(dict.fromkeys(certificates))
    if not rest:
        raise SecretDataError("no leaf found: it holds no certificate")
    check_object_count(len(rest), "it")
    signatures = _Signatures(rest)
    chain = [_leaf(rest, key, signatures)]
    rest.remove(chain[0])
    while (issuer := _issuer(chain[-1], rest, signatures)) is not None:
        chain.append(issuer)
        rest.remove(issuer)
    return CertificateChain((*chain, *rest), complete=not rest)


def has_public_key(certificate: Certificate, key: PublicKeyTypes) -> bool | None:
    """Whether a certificate is for that key; None where its own key is of an unknown kind."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return certificate.public_key() == key
    except (ValueError, UnsupportedAlgorithm):
        return None


class _Signatures:
    """Verifies which certificate issued which, each pair once, and not without end.

    Certificates with one name make every pair a candidate, so the names alone set no limit.
    """

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        self._names = {id(each): _names(each) for each in certificates}
        self._known: dict[tuple[int, int], bool] = {}
        self._verified = 0

    def issued(self, issuer: Certificate, certificate: Certificate) -> bool:
        """Return whether `issuer` issued `certificate`.

        Raises:
            SecretDataError: too many signatures were verified.
        """
        pair = (id(issuer), id(certificate))
        if self._names[pair[0]].subject != self._names[pair[1]].issuer:
            return False
        if pair not in self._known:
            self._verified += 1
            if self._verified > MAX_SIGNATURES:
                raise SecretDataError(
                    f"to order its certificates takes more than {MAX_SIGNATURES} signature checks",
                    "Remove the certificates that do not belong to the chain.",
                )
            self._known[pair] = _verify(issuer, certificate)
        return self._known[pair]


def _leaf(
    certificates: list[Certificate], key: PublicKeyTypes | None, signatures: _Signatures
) -> Certificate:
    if key is not None:
        for certificate in certificates:
            if has_public_key(certificate, key):
                return certificate
    for certificate in certificates:
        others = (other for other in certificates if other is not certificate)
        if not any(signatures.issued(certificate, other) for other in others):
            return certificate
    return certificates[0]


def _issuer(
    certificate: Certificate, candidates: list[Certificate], signatures: _Signatures
) -> Certificate | None:
    """Who issued it; of several, as cross-signing makes them, one whose own issuer is here too."""
    if signatures.issued(certificate, certificate):
        return None
    found = [candidate for candidate in candidates if signatures.issued(candidate, certificate)]
    for candidate in found:
        others = (other for other in candidates if other is not candidate)
        is_root = signatures.issued(candidate, candidate)
        if not is_root and any(signatures.issued(other, candidate) for other in others):
            return candidate
    return found[0] if found else None


def _names(certificate: Certificate) -> CertificateNames:
    from cryptography.hazmat.primitives.serialization import Encoding

    # Not by the library, which takes long for a long name, and refuses some.
    return certificate_names(certificate.public_bytes(Encoding.DER))


def _verify(issuer: Certificate, certificate: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return False
    except (TypeError, UnsupportedAlgorithm):
        # A signature that the library cannot check: the names are all there is to go by.
        return True
    return True
