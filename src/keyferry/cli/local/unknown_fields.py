"""Prints warnings about fields that have no effect: a misspelled one would vanish in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.console import console
from keyferry.providers.registry import unknown_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes import SecretProviderClass


class UnknownFieldWarnings:
    """Prints each warning once to standard error."""

    def __init__(self) -> None:
        self._printed: set[UnknownField] = set()

    def check_class(self, spc: SecretProviderClass, secret_keys: Iterable[str] = ()) -> None:
        """Print the unknown fields of a SecretProviderClass, and misspelled keys of a Secret.

        Args:
            spc: the SecretProviderClass.
            secret_keys: of the Secret that `nodePublishSecretRef` names.
        """
        self.print(unknown_fields(spc, secret_keys=tuple(secret_keys)))

    def print(self, fields: Iterable[UnknownField], *, source: str = "") -> None:
        """Print warnings that were not printed before.

        Args:
            fields: what to warn of.
            source: the file that they are in; "" for that of the SecretProviderClass.
        """
        for field in fields:
            if field not in self._printed:
                self._printed.add(field)
                console().warn(f"{source}{': ' if source else ''}{field}")
