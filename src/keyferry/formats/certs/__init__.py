"""Certificates and keys: PEM, PKCS#12, JWK, the order of a chain. [pure]

`tls` has what a TLS Secret needs; `chain`, `bundle` and `jwk` serve the providers. Nothing is
imported here, because the filters of templates need PEM only.
"""
