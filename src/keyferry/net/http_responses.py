"""Parses responses of vaults: documents and errors. [pure]

A body may contain a secret value, so no message quotes it, except the error codes in the format
that all Azure services share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from keyferry.errors import VaultError, VaultThrottledError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class ErrorResponse(Struct, frozen=True):
    """An error response that a retry cannot change.

    Attributes:
        status: HTTP status.
        codes: error codes of the body, outermost first (`Forbidden`, `SecretDisabled`); never its
            messages.
        challenge: `WWW-Authenticate` header, or "".
    """

    status: int
    codes: tuple[str, ...]
    challenge: str


def parse_error_response(status: int, headers: Mapping[str, str], body: bytes) -> ErrorResponse:
    """Parse an error response."""
    return ErrorResponse(status, _error_codes(body), headers.get("WWW-Authenticate", ""))


def parse_json_response(body: bytes, document: type[T], *, host: str, action: str) -> T:
    """Parse a JSON response body as `document`.

    Args:
        body: body of a response with status 200.
        document: msgspec type of the document.
        host: host that answered, for messages.
        action: completes "failed to ..." in messages.

    Raises:
        VaultError: `body` is not the JSON of `document`; the message does not quote it.
    """
    try:
        return msgspec.json.decode(body, type=document)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Neither quoted nor chained: the body may contain a secret value.
        raise VaultError(
            f"failed to {action}: the response of {host} is not valid JSON of the vault API",
            f"Check that {host} is a vault and that no proxy answers instead.",
        ) from None


def retryable_error(
    status: int, *, host: str, action: str, retry_after: float | None
) -> VaultError:
    """Return the error for a status that can be retried.

    Args:
        status: one of `keyferry.net.retryable.RETRY_STATUSES`.
        host: host that answered.
        action: completes "failed to ...".
        retry_after: seconds of the Retry-After header, or None.
    """
    if status == 429:
        throttled = VaultThrottledError(
            f"failed to {action}: {host} throttles requests (429 Too Many Requests)",
            "Request fewer objects, or distribute them over several vaults.",
            retry_after=retry_after,
        )
        if retry_after is not None:
            throttled.add_detail(f"retry after {retry_after:g} s")
        return throttled
    problem = f"{host} failed with status {status}"
    error = VaultError(
        f"failed to {action}: {problem}",
        "Check the health of the vault; Keyferry retries with the next mount or refresh.",
    )
    error.is_outage = True
    error.host_problem = problem
    return error


class _InnerError(msgspec.Struct):
    code: str = ""


class _ErrorDetail(msgspec.Struct):
    code: str = ""
    innererror: _InnerError | None = None


class _ErrorDocument(msgspec.Struct):
    error: _ErrorDetail


def _error_codes(body: bytes) -> tuple[str, ...]:
    """Return the codes of `{"error": {"code", "innererror": {"code"}}}`; () for other bodies."""
    try:
        error = msgspec.json.decode(body, type=_ErrorDocument).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ()
    codes = (error.code, error.innererror.code if error.innererror else "")
    # A code is one short word. Other text of the server is not quoted.
    return tuple(code for code in codes if len(code) <= 64 and code.isascii() and code.isalnum())
