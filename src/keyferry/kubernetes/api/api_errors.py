"""Translates lightkube and httpx exceptions into StoreError subclasses.

A message names the verb, the resource and the object. Of the response it repeats only reasons that
the API documents, and names that `rejection` finds, because the server quotes values in its texts.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import httpx2
import msgspec
from lightkube.core.exceptions import ApiError

from keyferry.errors import (
    StoreError,
    StorePermissionError,
    StorePolicyError,
    StoreUnavailableError,
)
from keyferry.kubernetes.rejection import Rejection, RejectionKind, parse_rejection
from keyferry.net.retryable import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_REASON_PATTERN = re.compile(r"[A-Za-z]{1,60}")
_FIELD_PATTERN = re.compile(r"[-A-Za-z0-9_.\[\]/]{1,120}")


class ApiStatusError(StoreError):
    """The API server rejected the request.

    Attributes:
        http_status: the status of the response.
        rejection: why, if the message of the server says so in known words.
        retry_after: the seconds after which the server asks to try again; 0 if it does not.
    """

    http_status: int = 0
    rejection: Rejection | None = None
    retry_after: float = 0.0


class ApiNotFoundError(ApiStatusError):
    """The object does not exist (404)."""


class ApiConflictError(ApiStatusError):
    """The object changed meanwhile or exists already, or another manager owns a field (409)."""


class ApiGoneError(ApiStatusError):
    """The resourceVersion from which a watch or a list continues has expired (410)."""


class NamespaceTerminatingError(ApiStatusError):
    """The namespace is being deleted, so nothing can be created in it (403)."""


class ApiPermissionError(ApiStatusError, StorePermissionError):
    """A Role or ClusterRole does not permit the request (403)."""


class ApiPolicyError(ApiStatusError, StorePolicyError):
    """An admission policy of the cluster denies the request."""


class ApiUnreachableError(StoreUnavailableError):
    """The API server did not respond."""


class ApiBusyError(ApiStatusError, StoreUnavailableError):
    """The API server is overloaded or failed (429, 5xx)."""


RbacRemedy: TypeAlias = "Callable[[str, str, str], str]"
"""Returns how to grant a missing permission: a verb, a resource with its group, and an object."""


def driver_rbac_remedy(verb: str, resource: str, name: str) -> str:
    """Return how to grant a missing permission; for Secrets, the value of the chart."""
    if resource == "secrets":
        return (
            "In the chart: syncSecret.enabled=true, and add the namespace to syncSecret.namespaces;"
            " or create a Role with get, list, watch, create, patch and delete on secrets."
        )
    where = "Role in that namespace" if "/" in name else "ClusterRole"
    return (
        f"Grant the service account of Keyferry the verb {verb} on {resource} with a {where}"
        " and its binding."
    )


@contextmanager
def translate_errors(
    verb: str,
    resource: str,
    name: str,
    *,
    server: str,
    rbac_remedy: RbacRemedy = driver_rbac_remedy,
) -> Iterator[None]:
    """Translate what lightkube raises in the block into a `StoreError`.

    Args:
        verb: as RBAC knows it.
        resource: the plural with its group, as RBAC knows it.
        name: `namespace/name`, or another text that identifies the object.
        server: host and port of the API server.
        rbac_remedy: returns how to grant a missing permission.
    """
    try:
        yield
    except ApiError as error:
        # Not chained: the text of the server may quote a value of a Secret.
        raise error_for_status(
            error.status.code or 0,
            _safe_reason(error),
            verb=verb,
            resource=resource,
            name=name,
            rejection=parse_rejection(error.status.message or ""),
            retry_after=_retry_after(error.response),
            rbac_remedy=rbac_remedy,
        ) from None
    except httpx2.HTTPStatusError as error:
        raise error_for_status(
            error.response.status_code,
            "",
            verb=verb,
            resource=resource,
            name=name,
            retry_after=_retry_after(error.response),
            rbac_remedy=rbac_remedy,
        ) from None
    except (msgspec.MsgspecError, KeyError):
        # lightkube expects a content type, which the response of a proxy may lack.
        raise ApiUnreachableError(
            f"cannot {verb} {resource} {name}: the server at {server} is not a Kubernetes API",
            "Check the address of the API server and the proxies before it.",
        ) from None
    except httpx2.HTTPError as error:
        raise ApiUnreachableError(
            f"cannot {verb} {resource} {name}: the Kubernetes API at {server} "
            f"{_network_failure(error)} ({type(error).__name__})",
            "Check that the API server runs and that this node reaches it.",
        ) from error


def error_for_status(
    code: int,
    reason: str,
    *,
    verb: str,
    resource: str,
    name: str,
    rejection: Rejection | None = None,
    retry_after: float = 0.0,
    rbac_remedy: RbacRemedy = driver_rbac_remedy,
) -> ApiStatusError:
    """Return the error for a rejected request.

    Args:
        code: the HTTP status.
        reason: the reason of the API, without values; "" if unknown.
        verb: of RBAC.
        resource: the plural with its group.
        name: the object.
        rejection: what the message of the API says; None if it says nothing known.
        retry_after: the seconds after which the server asks to try again; 0 if it does not.
        rbac_remedy: returns how to grant a missing permission.
    """
    status = f"HTTP {code}{': ' if reason else ''}{reason}"
    problem = f"the Kubernetes API refuses to {verb} {resource} {name} ({status})"
    fallback = ApiBusyError if code == 429 or code >= 500 else ApiStatusError
    kind, remedy = _ERRORS_BY_STATUS.get(code, (fallback, "Check the log of the API server."))
    if rejection is not None and rejection.kind is not RejectionKind.PERMISSION:
        kind = _ERRORS_BY_REJECTION.get(rejection.kind, kind)
        problem = f"{problem}: {rejection.problem}"
        remedy = rejection.remedy(_namespace(name))
    elif code == 403:
        remedy = rbac_remedy(verb, resource, name)
        if rejection is not None:
            kind = ApiPermissionError
        else:
            remedy = f"{remedy} If the permission exists, an admission plugin denied the request."
    error = kind(problem, remedy)
    error.http_status = code
    error.rejection = rejection
    error.retry_after = retry_after
    return error


def _retry_after(response: httpx2.Response) -> float:
    return retry_after_seconds(response.headers, now=time.time()) or 0.0


def _namespace(name: str) -> str:
    """Return the namespace in `namespace/name`, `in namespace` or `in/namespace`."""
    namespace = name.removeprefix("in ").removeprefix("in/")
    return namespace.partition("/")[0]


_ERRORS_BY_REJECTION: Mapping[RejectionKind, type[ApiStatusError]] = {
    RejectionKind.TERMINATING: NamespaceTerminatingError,
    RejectionKind.POLICY: ApiPolicyError,
}
_ERRORS_BY_STATUS: Mapping[int, tuple[type[ApiStatusError], str]] = {
    401: (
        ApiStatusError,
        "Check the token of the service account, or the user of the kubeconfig.",
    ),
    404: (ApiNotFoundError, "Check that the namespace exists, and that the CRDs are installed."),
    409: (ApiConflictError, "Another client changed the object; retry."),
    410: (ApiGoneError, "List the objects again."),
    422: (ApiStatusError, "Fix the field in the SecretProviderClass or the SecretSync."),
    429: (ApiBusyError, "Keyferry tries again. If this lasts, the API server is overloaded."),
}


def _safe_reason(error: ApiError) -> str:
    """Return the reason and its fields, if they look like those that the API documents."""
    status = error.status
    reason = status.reason or ""
    words = [reason] if _REASON_PATTERN.fullmatch(reason) else []
    words += [
        f"{cause.field} {cause.reason}"
        for cause in (status.details.causes if status.details else None) or []
        if _REASON_PATTERN.fullmatch(cause.reason or "")
        and _FIELD_PATTERN.fullmatch(cause.field or "")
    ]
    return ", ".join(words)


def _network_failure(error: httpx2.HTTPError) -> str:
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return "cannot be reached"
        case httpx2.TimeoutException():
            return "did not respond in time"
        case _:
            return "closed the connection"
