"""The refusals of Entra: their AADSTS codes, and the shape in which they are sent. [pure]"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import Enum

from keyferry.devvault.exchange import Answer, Call, Refused


class Aadsts(Enum):
    """The codes in use: (number, OAuth error, HTTP status)."""

    ASSERTION_AUDIENCE = (50012, "invalid_client", 401)
    MALFORMED = (50027, "invalid_request", 400)
    ISSUER_KEYS = (50166, "invalid_request", 400)
    GRANT = (70003, "unsupported_grant_type", 400)
    TENANT = (90002, "invalid_request", 400)
    RESOURCE = (500011, "invalid_resource", 400)
    CLIENT = (700016, "unauthorized_client", 400)
    EXPIRED = (700024, "invalid_client", 401)
    ASSERTION_SIGNATURE = (700027, "invalid_client", 401)
    FEDERATION_ISSUER = (700211, "invalid_client", 401)
    FEDERATION_AUDIENCE = (700212, "invalid_client", 401)
    FEDERATION_SUBJECT = (700213, "invalid_client", 401)
    SCOPE = (1002012, "invalid_scope", 400)
    SECRET = (7000215, "invalid_client", 401)
    NO_CREDENTIAL = (7000216, "invalid_client", 401)


def entra_error(call: Call, code: Aadsts, message: str, note: str = "") -> Refused:
    """The refusal of `call` in the shape of Entra; `message` quotes no secret and no assertion."""
    number, error, status = code.value
    trace = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{call.host}{call.path}{call.now}"))
    correlation = call.headers.get("client-request-id", trace)
    timestamp = datetime.fromtimestamp(call.now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    body = {
        "error": error,
        "error_description": f"AADSTS{number}: {message} Trace ID: {trace}"
        f" Correlation ID: {correlation} Timestamp: {timestamp}",
        "error_codes": [number],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://{call.host}/error?code={number}",
    }
    return Refused(Answer(status, body, note=note or f"AADSTS{number}"))
