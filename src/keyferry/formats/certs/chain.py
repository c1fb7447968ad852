"""The order of a chain of certificates: the leaf first, then each one's issuer. [pure]

Names and signatures identify the issuer. Key identifiers, which upstream uses, are optional and not
authenticated.

Source: docs/reference/upstream-azure-provider.md#certificate-chain-order
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class CertificateChain:
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
        SecretDataError: there is no certificate.
    """
    rest = list(dict.fromkeys(certificates))
    if not rest:
        raise SecretDataError("no leaf found: it holds no certificate")
    chain = [_leaf(rest, key)]
    rest.remove(chain[0])
    while (issuer := _issuer(chain[-1], rest)) is not None:
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


def _leaf(certificates: list[Certificate], key: PublicKeyTypes | None) -> Certificate:
    if key is not None:
        for certificate in certificates:
            if has_public_key(certificate, key):
                return certificate
    for certificate in certificates:
        others = (other for other in certificates if other is not certificate)
        if not any(_issued(certificate, other) for other in others):
            return certificate
    return certificates[0]


def _issuer(certificate: Certificate, candidates: list[Certificate]) -> Certificate | None:
    """Who issued it; of several, as cross-signing makes them, one whose own issuer is here too."""
    if _issued(certificate, certificate):
        return None
    found = [candidate for candidate in candidates if _issued(candidate, certificate)]
    for candidate in found:
        others = (other for other in candidates if other is not candidate)
        is_root = _issued(candidate, candidate)
        if not is_root and any(_issued(other, candidate) for other in others):
            return candidate
    return found[0] if found else None


def _issued(issuer: Certificate, certificate: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        # Compares the names before it looks at the signature.
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return False
    except (TypeError, UnsupportedAlgorithm):
        # A signature that the library cannot check: the names are all there is to go by.
        return True
    return True
