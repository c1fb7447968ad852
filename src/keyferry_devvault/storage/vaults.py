"""The names of the vaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ObjectNotFoundError, RequestInvalidError
from keyferry_devvault.model import VAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry_devvault.command_hints import CommandHints
    from keyferry_devvault.storage.database import Database


class VaultTable:
    """The table of vaults. Names are not case-sensitive.

    Args:
        database: contains the table.
        wall_time: returns Unix time.
        hints: writes the commands of errors.
    """

    def __init__(
        self, database: Database, wall_time: Callable[[], float], hints: CommandHints
    ) -> None:
        self._database = database
        self._wall_time = wall_time
        self._hints = hints

    def ensure(self, vault: str) -> bool:
        """Create `vault` if it does not exist, and return whether it was created.

        Raises:
            RequestInvalidError: the name is invalid.
        """
        if not VAULT_NAME.fullmatch(vault):
            raise RequestInvalidError(
                f"{vault!r} cannot be the name of a vault",
                "It has 3 to 24 letters, digits and hyphens.",
            )
        with self._database.write() as connection:
            created = connection.execute(
                "INSERT OR IGNORE INTO vault (name, created) VALUES (?, ?)",
                (vault.lower(), int(self._wall_time())),
            )
            return created.rowcount == 1

    def names(self) -> tuple[str, ...]:
        """Return the names of all vaults, in order."""
        return self._database.read(
            ("vaults",),
            lambda c: tuple(name for (name,) in c.execute("SELECT name FROM vault ORDER BY name")),
        )

    def contains(self, vault: str) -> bool:
        """Return whether there is a vault of this name."""
        return vault.lower() in self.names()

    def require(self, vault: str) -> None:
        """Check that `vault` exists.

        Raises:
            ObjectNotFoundError: it does not.
        """
        if self.contains(vault):
            return
        names = self.names()
        known = f"The vaults are: {', '.join(names)}. " if names else ""
        raise ObjectNotFoundError(
            f"there is no vault {vault!r}",
            f"{known}To create it, store a secret in it: {self._hints.line('set', vault, 'NAME')}",
        )
