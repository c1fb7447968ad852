"""Errors of a SecretSync that the controller finds without a request. [pure]"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, TypeVar

from keyferry.errors import KeyferryError, PlatformError, Stage
from keyferry.kubernetes.syncs.fields import CREDENTIALS_SECRET
from keyferry.kubernetes.syncs.objects import OPT_IN_LABEL, OPT_IN_NAMES
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.kubernetes.syncs.objects import SecretSync, ServiceAccountOptIn

E = TypeVar("E", bound=KeyferryError)

_POD_FIELD = "nodePublishSecretRef"


class NamespaceNotListedError(PlatformError):
    """The controller may not work in the namespace."""

    stage = Stage.STORE


def namespace_error(namespace: str) -> NamespaceNotListedError:
    """Return the error for a SecretSync in a namespace that is not listed."""
    return NamespaceNotListedError(
        f"the controller may not write Secrets in namespace {namespace!r}",
        "Add the namespace to secretSync.namespaces of the chart (flag --namespaces).",
    )


def opt_in_error(sync: SecretSync, opt_in: ServiceAccountOptIn | None) -> TokenRequestError | None:
    """Return why a SecretSync may not use its service account, or None.

    Args:
        sync: the SecretSync.
        opt_in: of its service account; None without one.
    """
    account = f"service account {sync.ref.namespace}/{sync.service_account}"
    if opt_in is None:
        return TokenRequestError(
            f"{account} does not exist, or does not allow SecretSyncs to use it",
            f'Set the label {OPT_IN_LABEL}: "true" on the service account.',
        )
    if not opt_in.permits(sync.ref.name):
        return TokenRequestError(
            f"{account} does not allow the SecretSync {sync.ref.name} to use it",
            f"Add {sync.ref.name} to its annotation {OPT_IN_NAMES}, or remove the annotation.",
        )
    return None


def audience_error(missing: Iterable[str], permitted: Iterable[str]) -> TokenRequestError:
    """Return the error for audiences that a SecretProviderClass needs and nobody permits."""
    needed = ", ".join(sorted(missing))
    listed = ", ".join(sorted(permitted)) or "none"
    return TokenRequestError(
        f"the SecretProviderClass needs a service-account token for the audience {needed}, and"
        f" only these are permitted: {listed}",
        f"Add audience: {needed} to secretSync.tokenRequests of the chart (flag"
        " --token-request-audience).",
    )


def with_credentials_remedy(error: E) -> E:
    """Return `error`, with a remedy that says where a SecretSync names its credentials.

    Providers name the field of a pod.

    Args:
        error: why a fetch failed; it is not changed, because SecretSyncs may share it.
    """
    if _POD_FIELD not in str(error):
        return error
    copied = copy(error)
    note = f"A SecretSync has the annotation {CREDENTIALS_SECRET} instead of {_POD_FIELD}."
    copied.remedy = f"{error.remedy} {note}".strip()
    return copied
