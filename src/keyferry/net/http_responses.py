"""What the answers of a vault say: the document asked for, "later", or "no". [pure]

The body of an answer may hold a secret value, so nothing of it ever reaches a message, but for the
error codes of the shape that all Azure services share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from keyferry.errors import VaultError, VaultThrottledError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is neither the document asked for nor worth another try.

    Attributes:
        status: of HTTP.
        codes: the error codes in the answer, outermost first (`Forbidden`, `SecretDisabled`); never
            its messages.
        challenge: the `WWW-Authenticate` header, or "".
    """

    status: int
    codes: tuple[str, ...]
    challenge: str


def parse_error_response(status: int, headers: Mapping[str, str], body: bytes) -> ErrorResponse:
    """Read the answer of a server that says "no"."""
    return ErrorResponse(status, _error_codes(body), headers.get("WWW-Authenticate", ""))


def parse_json_response(body: bytes, document: type[T], *, host: str, action: str) -> T:
    """The JSON document in `body`.

    Args:
        body: of an answer with status 200.
        document: what msgspec makes of it.
        host: who answered, for messages.
        action: the end of the sentence "failed to ...", for messages.

    Raises:
        VaultError: it is not the JSON of `document`; nothing of it is repeated.
    """
    try:
        return msgspec.json.decode(body, type=document)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Neither quoted nor chained: the answer may hold a secret value.
        raise VaultError(
            f"failed to {action}: the answer of {host} is not the JSON of the vault's API",
            f"Check that {host} is a vault and that no proxy answers instead.",
        ) from None


def retryable_error(
    status: int, *, host: str, action: str, retry_after: float | None
) -> VaultError:
    """The error for a status that says "later".

    Args:
        status: one of `keyferry.resilience.retry.RETRY_STATUSES`.
        host: who answered.
        action: the end of the sentence "failed to ...".
        retry_after: seconds that the answer asked to wait, if it did.
    """
    if status == 429:
        wish = "" if retry_after is None else f" and asks to wait {retry_after:g} s"
        return VaultThrottledError(
            f"failed to {action}: {host} throttles (429 Too Many Requests){wish}",
            "Too many requests reach this vault: ask for fewer objects or spread them over vaults.",
            retry_after=retry_after,
        )
    return VaultError(
        f"failed to {action}: {host} failed with status {status}",
        "The failure is on the vault's side; Keyferry tries again with the next mount or refresh.",
    )


class _InnerError(msgspec.Struct):
    code: str = ""


class _ErrorDetail(msgspec.Struct):
    code: str = ""
    innererror: _InnerError | None = None


class _ErrorDocument(msgspec.Struct):
    error: _ErrorDetail


def _error_codes(body: bytes) -> tuple[str, ...]:
    """The codes in `{"error": {"code", "innererror": {"code"}}}`; none in any other answer."""
    try:
        error = msgspec.json.decode(body, type=_ErrorDocument).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ()
    codes = (error.code, error.innererror.code if error.innererror else "")
    # A code is one short word; anything else is text of the server, which stays out of messages.
    return tuple(code for code in codes if len(code) <= 64 and code.isascii() and code.isalnum())
