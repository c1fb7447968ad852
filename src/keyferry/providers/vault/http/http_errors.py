"""What it means when a vault says "later": sealed, standby, throttled, failing. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import VaultError, VaultThrottledError

if TYPE_CHECKING:
    from keyferry.providers.vault.http.server import Server

_RETRY_NOTE = "Keyferry tries again with the next mount or refresh."


def unavailable_error(
    status: int,
    errors: tuple[str, ...],
    server: Server,
    action: str,
    retry_after: float | None,
    *,
    secrets: tuple[str, ...] = (),
) -> VaultError:
    """The error for a status that says "later".

    Args:
        status: of HTTP.
        errors: what the vault says.
        server: who answered.
        action: the end of the sentence "failed to ...".
        retry_after: seconds that the answer asked to wait, if it did.
        secrets: what was sent and is never repeated.
    """
    text = " ".join(errors).lower()
    if status == 429:
        wish = "" if retry_after is None else f" and asks to wait {retry_after:g} s"
        return VaultThrottledError(
            f"failed to {action}: {server} throttles (429 Too Many Requests){wish}",
            "A rate-limit quota of the vault is used up: raise it (sys/quotas/rate-limit), or "
            "ask for fewer objects.",
            retry_after=retry_after,
        )
    if "sealed" in text:
        return VaultError(
            f"failed to {action}: {server} is sealed ({status})",
            f"Unseal it: {server.command} operator unseal. {_RETRY_NOTE}",
        )
    if "standby" in text or "active cluster node not found" in text or "not active" in text:
        return VaultError(
            f"failed to {action}: {server} is a standby node and reaches no active one ({status})",
            f"Look at the nodes: {server.command} operator raft list-peers, or sys/ha-status. "
            f"{_RETRY_NOTE}",
        )
    if status == 412:
        return VaultError(
            f"failed to {action}: this node of {server} has not yet seen the newest state (412)",
            f"Use the address of the active node, or of a load balancer. {_RETRY_NOTE}",
        )
    said = f": {'; '.join(quoted)}" if (quoted := safe_to_quote(errors, secrets=secrets)) else ""
    return VaultError(
        f"failed to {action}: {server} failed with status {status}{said}",
        f"The failure is on the vault's side; its own log says more. {_RETRY_NOTE}",
    )


def safe_to_quote(errors: tuple[str, ...], *, secrets: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The first texts of a refusal, short and on one line, without any that repeats a secret.

    People and tests search for the vault's own words, so they are passed on; what a vault could
    have been made to repeat is not.
    """
    shown = []
    for error in errors[:3]:
        line = " ".join("".join(c if c.isprintable() else " " for c in error).split())
        line = line.removeprefix("1 error occurred: * ")
        if line and not any(secret and secret in error for secret in secrets):
            shown.append(line if len(line) <= 300 else line[:300] + "...")
    return tuple(shown)
