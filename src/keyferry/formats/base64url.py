"""base64url without padding, as in JSON Web Tokens and Keys (RFC 7515, section 2). [pure]"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode


def encode_base64url(data: bytes) -> str:
    """Return `data` as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Return the bytes that `text` encodes; padding is accepted.

    Raises:
        ValueError: a character outside of the alphabet, or an impossible length.
    """
    unpadded = text.rstrip("=")
    return b64decode(unpadded + "=" * (-len(unpadded) % 4), altchars=b"-_", validate=True)
