"""What the value of a secret stands for. [pure]

Source: azure, section 5.8.
"""

from __future__ import annotations

import binascii
from typing import assert_never

from keyferry.errors import ObjectUnusableError
from keyferry.providers.azure.objects import ObjectEncoding


def decode(value: str, encoding: ObjectEncoding) -> bytes:
    """The bytes that `value` stands for: nothing is added to it and nothing is cut off.

    Args:
        value: as it is in the vault.
        encoding: what the class says of it; base64 is the standard alphabet with its padding, in
            which line ends do not count.

    Raises:
        ObjectUnusableError: the value is not of that encoding; the message does not repeat it.
    """
    # Each `from None`: the foreign exceptions quote what they could not read.
    match encoding:
        case ObjectEncoding.UTF8:
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise ObjectUnusableError("the value is not valid Unicode") from None
        case ObjectEncoding.BASE64:
            compact = value.replace("\r", "").replace("\n", "")
            try:
                return binascii.a2b_base64(compact.encode("ascii"), strict_mode=True)
            except ValueError:
                raise _decoding_error("base64") from None
        case ObjectEncoding.HEX:
            try:
                return binascii.unhexlify(value.encode("ascii"))
            except ValueError:
                raise _decoding_error("hex") from None
        case _:
            assert_never(encoding)


def _decoding_error(encoding: str) -> ObjectUnusableError:
    return ObjectUnusableError(
        f"the value is not {encoding}, as objectEncoding says",
        f"Remove objectEncoding for the value as it is, or store it in {encoding}.",
    )
