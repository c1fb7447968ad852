"""Error responses of Entra ID: AADSTS codes and format. [pure]"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import Enum

from keyferry_devvault.http_types import HttpError, Request, Response


class Aadsts(Enum):
    """The codes that are used, each as (number, OAuth error, HTTP status)."""

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


def entra_error(request: Request, code: Aadsts, message: str, note: str = "") -> HttpError:
    """Return the error response to `request`; `message` must quote no secret or assertion."""
    number, error, status = code.value
    trace = str(
        uuid.uuid5(uuid.NAMESPACE_URL, f"{request.host}{request.path}{request.received_at}")
    )
    correlation = request.headers.get("client-request-id", trace)
    timestamp = datetime.fromtimestamp(request.received_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    body = {
        "error": error,
        "error_description": f"AADSTS{number}: {message} Trace ID: {trace}"
        f" Correlation ID: {correlation} Timestamp: {timestamp}",
        "error_codes": [number],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://{request.host}/error?code={number}",
    }
    return HttpError(Response(status, body, note=note or f"AADSTS{number}"))
