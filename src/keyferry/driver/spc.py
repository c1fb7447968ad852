"""The checks of a SecretProviderClass before a mount begins. [pure]

Source: driver.md, section 1.5, steps 11 and 12, and driver-wire, section 2.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9_-]{1,30}")


def check_class(spc: SecretProviderClass) -> SecretProviderClass:
    """The same class, now known to name a provider that could exist and to say something to it.

    Raises:
        ClassInvalidError: `spec.provider` is empty or cannot be a provider, or `spec.parameters` is
            empty.
    """
    who = f"SecretProviderClass {spc.namespace}/{spc.name}"
    if not spc.provider:
        raise ClassInvalidError(
            f"{who} names no provider: spec.provider is empty",
            "Set spec.provider to the provider of your vault, for example azure.",
        )
    if not _PROVIDER_NAME.fullmatch(spc.provider):
        raise ClassInvalidError(
            f"{who}: spec.provider {spc.provider[:60]!r} cannot be the name of a provider",
            "A name has at most 30 letters, digits, '_' and '-'.",
        )
    if not spc.parameters:
        raise ClassInvalidError(
            f"{who} says nothing to its provider: spec.parameters is empty",
            f"Set spec.parameters: the vault and the objects, as provider {spc.provider!r} asks.",
        )
    return spc
