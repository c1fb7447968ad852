"""Errors of Keyferry, grouped by who must act on them. [pure]

An error has a *stage* that failed, a gRPC *code* for kubelet (as in the upstream driver), a
*reason* for the `error_type` label of metrics, and a *remedy*: a sentence that a person can act
on. Exceptions of libraries are translated where they are caught, with `raise ... from`. No message
contains a secret value, a token or the body of a response.
"""

from __future__ import annotations

import errno
from copy import copy
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, TypeVar

from keyferry.accesses import AccessOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.accesses import VaultAccess


class Code(IntEnum):
    """gRPC status codes by number, so that the engine does not import gRPC."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14


class Stage(Enum):
    """Stages of a mount, in order."""

    REQUEST = "request"
    """The call of kubelet, or the arguments of a command."""
    CLASS = "class"
    """The SecretProviderClass."""
    PROVIDER = "provider"
    """Selecting a provider and calling it."""
    IDENTITY = "identity"
    """Requesting a token: token endpoint, IMDS, service account token."""
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    VAULT = "vault"
    """The vault: it throttles, fails, or denies this identity."""
    OBJECT = "object"
    """One secret, key or certificate in the vault."""
    VOLUME = "volume"
    """The mount and the files of the volume."""
    SECRET = "secret"  # noqa: S105 - the name of a stage
    """The Kubernetes Secret that is synced from files of the volume."""
    STORE = "store"
    """Reading and writing Kubernetes objects."""


class KeyferryError(Exception):
    """Base class; entry points such as gRPC methods and commands catch it.

    Args:
        problem: what failed, with the name of the field, object or path; without a period.
        remedy: what to do next, as a sentence; "" if the problem makes it obvious.
        stage: stage that failed, if it differs from the default of the error type.

    The message is the same each time the same thing fails, because it becomes a Kubernetes event.

    Attributes:
        object_name: vault object that failed, such as `secret db-password`; "" for none.
        detail: what differs each time, such as times and counters; for logs and conditions only.
        outcome: the outcome of an access that failed with this error, for the audit log.
        accesses: what a failed mount had read; set by the provider.
        is_cached: whether the error comes from the negative cache, and not from the vault.
        upstream_prefix: what upstream writes before the problem, with a colon and a space. Part of
            the text in gRPC answers, events and logs; the command line leaves it out.
    """

    code: int = Code.UNKNOWN
    reason: str = "FailedToMount"
    stage: Stage = Stage.REQUEST
    object_name: str = ""
    detail: str = ""
    outcome: AccessOutcome = AccessOutcome.FAILED
    accesses: tuple[VaultAccess, ...] = ()
    is_cached: bool = False
    upstream_prefix: str = ""

    def __init__(self, problem: str, remedy: str = "", *, stage: Stage | None = None) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        if stage is not None:
            self.stage = stage

    def __str__(self) -> str:
        """Return upstream's prefix, problem and remedy as one line."""
        return f"{self.full_problem}. {self.remedy}" if self.remedy else self.full_problem

    @property
    def full_problem(self) -> str:
        """The problem after upstream's prefix."""
        return f"{self.upstream_prefix}{self.problem}"

    def log_pairs(self) -> dict[str, str]:
        """Return the key-value pairs of a log line: stage, object, error and detail."""
        about = {"object": self.object_name} if self.object_name else {}
        detail = {"detail": self.detail} if self.detail else {}
        return {"stage": self.stage.value, **about, "error": str(self), **detail}

    def add_detail(self, detail: str) -> None:
        """Add to `detail`."""
        self.detail = f"{self.detail}, {detail}" if self.detail else detail


# --- The author of the SecretProviderClass or the pod must act ---


class AuthorError(KeyferryError):
    """The SecretProviderClass or the pod is invalid."""

    stage = Stage.CLASS


class ClassNotFoundError(AuthorError):
    """The SecretProviderClass does not exist in the namespace of the pod."""

    reason = "SecretProviderClassNotFound"


class ClassInvalidError(AuthorError):
    """A field of the SecretProviderClass is missing or invalid."""


class ObjectNamesError(AuthorError):
    """An `objectName` of `secretObjects` is unknown or ambiguous.

    The message lists the candidates.
    """

    reason = "FailedToCreateSecret"
    stage = Stage.SECRET


class SecretDataError(AuthorError):
    """The files of a `secretObjects` entry do not form a Secret of its type."""

    reason = "FailedToCreateSecret"
    stage = Stage.SECRET


class SecretTypeRefusedError(SecretDataError):
    """A Secret of this type is never written."""


class MountLimitError(AuthorError):
    """The objects of one volume, or of the concurrent mounts of one tenant, are too large."""

    code = Code.RESOURCE_EXHAUSTED
    stage = Stage.VOLUME
    reason = "GRPCProviderError"


# --- The operator of the cluster or the machine must act ---


class PlatformError(KeyferryError):
    """The node, the installation or the request is at fault."""


class RequestInvalidError(PlatformError):
    """The request is invalid (INVALID_ARGUMENT in CSI)."""

    code = Code.INVALID_ARGUMENT


class SettingInvalidError(PlatformError):
    """A flag or an environment variable has an invalid value."""


class VolumeUnpublishedError(PlatformError):
    """The volume was unpublished during this publish (ABORTED in CSI).

    Args:
        target_path: mount path of the volume.
    """

    code = Code.ABORTED

    def __init__(self, target_path: str) -> None:
        super().__init__(
            f"the volume at {target_path} was unpublished while it was being published",
            "No action is needed: kubelet retries while the pod exists.",
        )


class ProviderNotFoundError(PlatformError):
    """No built-in provider and no provider socket has the requested name."""

    stage = Stage.PROVIDER
    reason = ""


class ProviderUnreachableError(PlatformError):
    """The socket of a provider exists but does not accept calls."""

    stage = Stage.PROVIDER
    code = Code.UNAVAILABLE
    reason = "GRPCProviderError"


class VolumeError(PlatformError):
    """The mount point cannot be inspected, mounted or unmounted."""

    stage = Stage.VOLUME
    code = Code.INTERNAL
    reason = "FailedToEnsureMountPoint"


class OutOfDescriptorsError(PlatformError):
    """This process, or this node, cannot open another file or connection."""

    code = Code.RESOURCE_EXHAUSTED


def descriptor_error(error: BaseException) -> OutOfDescriptorsError | None:
    """Return the error to report if `error` has the cause EMFILE or ENFILE; None otherwise.

    Such a failure can arise wherever a file or a connection is opened, so it is translated at the
    edge of the process. The problem of a `KeyferryError` is kept; its remedy would mislead.
    """
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            remedy = _DESCRIPTOR_REMEDIES[cause.errno]
            if isinstance(error, KeyferryError):
                renamed = OutOfDescriptorsError(error.problem, remedy, stage=error.stage)
                renamed.upstream_prefix = error.upstream_prefix
                return renamed
            return OutOfDescriptorsError("no further file or connection can be opened", remedy)
        if cause is None:
            break
        cause = cause.__cause__ or cause.__context__
    return None


_MAX_CAUSES = 10
_DESCRIPTOR_REMEDIES = {
    errno.EMFILE: "This process has too many open files: raise its limit (ulimit -n, or LimitNOFILE"
    " of the container runtime). The call is repeated.",
    errno.ENFILE: "This node has too many open files: find the process that opens them, or raise"
    " fs.file-max. The call is repeated.",
}


class StoreError(PlatformError):
    """Kubernetes objects cannot be read or written."""

    stage = Stage.STORE
    reason = ""


class StoreUnavailableError(StoreError):
    """The store is unavailable; a retry may succeed."""


class StorePermissionError(StoreError):
    """The Kubernetes API denies a permission to Keyferry."""


class StorePolicyError(StoreError):
    """An admission policy of the cluster denies the write."""


class SecretNotManagedError(StoreError):
    """A Secret with this name exists that Keyferry does not manage."""


class SecretConflictError(StoreError):
    """The Secret belongs to another SecretProviderClass, or to a SecretSync.

    Attributes:
        owner_class: name of the other SecretProviderClass; "" for a SecretSync.
    """

    def __init__(self, problem: str, remedy: str, *, owner_class: str = "") -> None:
        super().__init__(problem, remedy)
        self.owner_class = owner_class


# --- The operator of the vault must act ---


class ProviderError(KeyferryError):
    """A provider failed; the volume retains its previous content."""

    stage = Stage.PROVIDER
    reason = "GRPCProviderError"


class ProviderReportedError(ProviderError):
    """A provider answered with an error code or gRPC status, which is passed on."""

    def __init__(self, problem: str, remedy: str = "", *, code: int, reason: str) -> None:
        super().__init__(problem, remedy)
        self.code = code
        self.reason = reason


class FilesInvalidError(ProviderError):
    """A provider returned a file path that is not allowed in a volume."""

    stage = Stage.VOLUME
    reason = "FileWriteError"


class VaultError(ProviderError):
    """A vault or the connection to it failed: token endpoint, DNS, TLS, permission, object.

    Attributes:
        is_outage: whether the vault is unavailable for a reason that the SecretProviderClass cannot
            cause.
        host_problem: what the host did, without the request, whose object and identity concern
            only its caller; "" if that is unknown.
    """

    stage = Stage.VAULT
    is_outage: bool = False
    host_problem: str = ""


class ConnectionFailedError(VaultError):
    """The connection failed: DNS, TCP, TLS, a timeout, or an incomplete response.

    Attributes:
        host: the host of the request, as messages name it; "" if there was none.
        host_fault: whether the host may be unavailable for others, too. A TLS handshake also fails
            because of settings of the SecretProviderClass.
    """

    stage = Stage.CONNECT
    host: str = ""
    host_fault: bool = True


class IdentityError(VaultError):
    """The token endpoint rejected the identity, or the identity cannot be used here.

    Attributes:
        is_federation: whether the identity does not trust the service account of the pod.
        lacks_token: whether there is no service-account token to authenticate with.
    """

    stage = Stage.IDENTITY
    is_federation: bool = False
    lacks_token: bool = False
    outcome = AccessOutcome.DENIED


class Denial(Enum):
    """What a vault found missing when it denied access."""

    TOKEN = "token"  # noqa: S105 - a word
    """It does not accept the token of the identity."""
    NETWORK = "network"
    """Its firewall does not permit the network of the request."""
    ROLE = "role"
    """The identity has no role that permits the request (RBAC)."""
    POLICY = "policy"
    """No policy permits the request to the identity."""


class AccessDeniedError(VaultError):
    """The vault denied access to the object (403) or rejected the token (401).

    Args:
        denial: what is missing.
    """

    outcome = AccessOutcome.DENIED
    denial: Denial = Denial.POLICY

    def __init__(self, problem: str, remedy: str = "", *, denial: Denial = Denial.POLICY) -> None:
        super().__init__(problem, remedy)
        self.denial = denial


class ObjectNotFoundError(VaultError):
    """The vault has no such object or version, or it is disabled."""

    stage = Stage.OBJECT
    outcome = AccessOutcome.NOT_FOUND


class VaultNotFoundError(ObjectNotFoundError):
    """The host answers, but has no vault of this name."""

    stage = Stage.VAULT


class ObjectMissingError(ObjectNotFoundError):
    """The vault has no such object, version or key, or it is disabled or deleted.

    Only this error makes an optional object missing. A vault, a secrets engine or a path that does
    not exist is a mistake in the SecretProviderClass.
    """


class ObjectUnusableError(VaultError):
    """The object cannot be rendered in the requested encoding or format."""

    stage = Stage.OBJECT


class VaultThrottledError(VaultError):
    """The vault throttled (429) for longer than one mount can wait.

    Attributes:
        retry_after: seconds of the Retry-After header, or None.
    """

    def __init__(self, problem: str, remedy: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class VaultUnavailableError(VaultError):
    """The circuit breaker is open: the vault has not responded for a while."""


# --- Keyferry must be fixed ---


class InternalError(KeyferryError):
    """An internal error. The message names the step, never a value."""

    code = Code.INTERNAL


# --- Quotes of user input in messages ---

_MAX_EXCERPT = 100


def excerpt(text: str) -> str:
    """Return `text` on one line, shortened, without control characters."""
    shown = text if len(text) <= _MAX_EXCERPT else text[:_MAX_EXCERPT] + "..."
    return "".join(char if char.isprintable() else "?" for char in shown)


# --- One error for all objects of a mount that failed ---

E = TypeVar("E", bound="KeyferryError")

_MAX_NAMES = 10
"""Maximum number of further failures that a message names."""


def prefixed(prefix: str, error: E) -> E:
    """Return a copy of `error` with `prefix`; mounts may share the error itself."""
    copied = copy(error)
    copied.problem = f"{prefix}: {error.problem}"
    return copied


def with_upstream_prefix(prefix: str, error: E) -> E:
    """Return a copy of `error` with `prefix` before its text, in upstream's words."""
    copied = copy(error)
    copied.upstream_prefix = f"{prefix}: {error.upstream_prefix}"
    return copied


def combined(failures: Sequence[tuple[str, KeyferryError]], prefix: str = "") -> KeyferryError:
    """Return the first failure, extended by the names of the other failed objects.

    Args:
        failures: pairs of object name and error, at least one.
        prefix: what upstream writes before the first problem, or "".
    """
    (about, first), others = failures[0], failures[1:]
    error = with_upstream_prefix(prefix, first) if prefix else copy(first)
    names = [name for name in dict.fromkeys(name for name, _ in others) if name != about]
    if names:
        more = len(names) - _MAX_NAMES
        tail = f" and {more} more" if more > 0 else ""
        error.problem += f"; also failed: {', '.join(names[:_MAX_NAMES])}{tail}"
    error.object_name = about
    error.__cause__ = first.__cause__
    return error
