"""Checks what every use of a SecretProviderClass needs. [pure]"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9_-]{1,30}")


def check_class(spc: SecretProviderClass) -> SecretProviderClass:
    """Check that `spc` names a provider and has parameters, and return it.

    Raises:
        ClassInvalidError: `spec.provider` is empty or not a valid name, or `spec.parameters` is
            empty.
    """
    name = f"SecretProviderClass {spc.namespace}/{spc.name}"
    if not spc.provider:
        remedy = "Set spec.provider to the provider of your vault, for example azure."
        written, remedy = _misspelled_field(spc, "provider", remedy)
        raise ClassInvalidError(f"{name} has no provider: spec.provider is empty{written}", remedy)
    if not _PROVIDER_NAME.fullmatch(spc.provider):
        raise ClassInvalidError(
            f"{name}: spec.provider {spc.provider[:60]!r} is not a valid provider name",
            "Use at most 30 letters, digits, '_' and '-'.",
        )
    if not spc.parameters:
        remedy = f"Set spec.parameters: the vault and the objects, as {spc.provider!r} requires."
        written, remedy = _misspelled_field(spc, "parameters", remedy)
        raise ClassInvalidError(
            f"{name} has no parameters: spec.parameters is empty{written}", remedy
        )
    return spc


def _misspelled_field(spc: SecretProviderClass, name: str, remedy: str) -> tuple[str, str]:
    """Return how the error about the missing `spec.NAME` continues, and its remedy.

    Only a file can have an unknown field there: the API server drops it.
    """
    for unknown in spc.unknown_fields:
        if unknown.path == "spec" and unknown.suggestion == name:
            return f"; you wrote {unknown.field}", f"Rename {unknown.field} to spec.{name}."
        if unknown.path == "" and unknown.name == name:
            return f"; {name} is not in spec", f"Move {name} below spec:."
        if unknown.path == "" and unknown.suggestion == "spec":
            return f"; you wrote {unknown.field}", f"Rename {unknown.field} to spec."
    return "", remedy
