"""Certificates and keys: PEM, PKCS#12, JWK, the order of a chain. [pure]

Here are the names that a TLS Secret needs; `chain`, `bundle` and `jwk` serve the providers.
"""

from keyferry.formats.certs.tls import certificate_pem, chain_of_key, private_key_pem

__all__ = ["certificate_pem", "chain_of_key", "private_key_pem"]
