"""Describes a certificate for people: whom it names, who issued it, and until when. [pure]"""

from __future__ import annotations

from msgspec import Struct

from keyferry.errors import SecretDataError, excerpt
from keyferry.formats.certs.loading import load_certificate

_MAX_NAMES = 10
_UNREADABLE = "(unreadable)"


class CertificateSummary(Struct, frozen=True):
    """The fields of a certificate that decide whether a client accepts it.

    Attributes:
        subject: its subject as text.
        issuer: its issuer as text.
        names: its first DNS names and IP addresses.
        not_after: when it expires, in seconds since 1970; 0 if it cannot be read.
    """

    subject: str
    issuer: str
    names: tuple[str, ...] = ()
    not_after: int = 0


def summarize_certificate(der: bytes) -> CertificateSummary:
    """Return the summary of a certificate in DER, which may be malformed."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import (
        DNSName,
        ExtensionNotFound,
        IPAddress,
        SubjectAlternativeName,
    )

    try:
        certificate = load_certificate(der, "the certificate of the server")
        try:
            alternative = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
        except ExtensionNotFound:
            names: list[str] = []
        else:
            value = alternative.value
            names = value.get_values_for_type(DNSName)
            names += [str(each) for each in value.get_values_for_type(IPAddress)]
        return CertificateSummary(
            excerpt(certificate.subject.rfc4514_string()),
            excerpt(certificate.issuer.rfc4514_string()),
            tuple(excerpt(each) for each in names[:_MAX_NAMES]),
            int(certificate.not_valid_after_utc.timestamp()),
        )
    except (SecretDataError, ValueError, TypeError, UnsupportedAlgorithm):
        return CertificateSummary(_UNREADABLE, _UNREADABLE)
