"""The parse jobs of the built-in providers. Their functions are in `keyferry.formats.certs`."""

from __future__ import annotations

from keyferry.aio.jobs import ParseJob
from keyferry.formats.certs.client_certificate import AssertionRequest, sign_assertion
from keyferry.formats.certs.client_pem import normalized_client_pem
from keyferry.formats.certs.material import MaterialBatch, ParsedBatch, parse_batch
from keyferry.formats.certs.summary import CertificateSummary, summarize_certificate

KEY_MATERIAL = ParseJob("key-material", parse_batch, MaterialBatch, ParsedBatch)
"""Parses certificates and keys that a vault delivers."""
CLIENT_ASSERTION = ParseJob("client-assertion", sign_assertion, AssertionRequest, str)
"""Signs a token request with the certificate of an application."""
CLIENT_PEM = ParseJob("client-pem", normalized_client_pem, bytes, bytes)
"""Checks and normalizes a TLS client certificate with its key."""
SERVER_CERTIFICATE = ParseJob(
    "server-certificate", summarize_certificate, bytes, CertificateSummary
)
"""Describes the certificate of a server for `keyferry doctor`, in its own process."""
