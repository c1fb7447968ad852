"""Describes service-account tokens as a federated credential or a role needs them. [pure]"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.doctor.checks import Check, DoctorStage, failed, ok, skipped
from keyferry.doctor.facts import format_time
from keyferry.errors import IdentityError, excerpt
from keyferry.providers.service_account_tokens import parse_tokens, read_claims

if TYPE_CHECKING:
    from collections.abc import Collection

    from keyferry.doctor.outcomes import ExitCodeOf

_ACCOUNT_PREFIX = "system:serviceaccount:"
_UNUSED = "the identity mode uses no service-account token"


def token_checks(
    attribute: str, audiences: Collection[str], *, now: float, exit_code: ExitCodeOf
) -> list[Check]:
    """Return a check for each token that a mount uses. Tokens that are missing have none.

    Args:
        attribute: the tokens as kubelet sends them; "" for none.
        audiences: those that the SecretProviderClass needs.
        now: Unix time.
        exit_code: returns the exit code of an error.
    """
    if not audiences:
        return [skipped(DoctorStage.TOKEN, "service account", _UNUSED)]
    tokens = parse_tokens(attribute) or {}
    checks = []
    for audience in sorted(audiences):
        if (token := tokens.get(audience)) is None:
            continue
        claims = read_claims(token)
        facts = {
            "issuer": excerpt(claims.iss or "(unreadable)"),
            "subject": excerpt(claims.sub or "(unreadable)"),
            "audience": excerpt(audience),
        }
        if claims.exp:
            facts["expires"] = format_time(datetime.fromtimestamp(claims.exp, UTC))
        account = excerpt(claims.sub.removeprefix(_ACCOUNT_PREFIX).replace(":", "/", 1))
        subject = account or "service account"
        if claims.exp and claims.exp <= now:
            error = IdentityError(
                "the service-account token has expired",
                "Create a new one: kubectl create token SERVICE-ACCOUNT --audience "
                f"{excerpt(audience)}",
            )
            code = exit_code(error)
            checks.append(failed(DoctorStage.TOKEN, subject, error, exit_code=code, facts=facts))
        else:
            checks.append(ok(DoctorStage.TOKEN, subject, facts))
    return checks
