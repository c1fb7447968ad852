"""Every error that Keyferry raises on purpose, grouped by who must act on it. [pure]

An error knows four things about itself: the *stage* of the journey that failed, the gRPC status
that kubelet is to see (the published codes of the upstream driver), the *reason* that the
`error_type` label of the metrics carries, and a *remedy*: a sentence that a person can act on.
Foreign exceptions are translated into these at the edge where they arise, chained with `raise ...
from`. No message ever holds a secret value, a token or the body of a response.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Code(IntEnum):
    """The gRPC status codes in use, by number, so that the engine needs no gRPC to run."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14


class Stage(Enum):
    """The stations between the pod and the vault, in the order in which a mount meets them."""

    REQUEST = "request"
    """The call of kubelet, or the arguments of a command."""
    CLASS = "class"
    """The SecretProviderClass."""
    PROVIDER = "provider"
    """Finding a provider and talking to it."""
    IDENTITY = "identity"
    """Getting a token: the token endpoint of the cloud, IMDS, the service-account token."""
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    VAULT = "vault"
    """The vault as a whole: it throttles, fails, or refuses this identity."""
    OBJECT = "object"
    """One secret, key or certificate in the vault."""
    VOLUME = "volume"
    """The mount and the files of the volume."""
    SECRET = "secret"  # noqa: S105 - the name of a stage
    """The Kubernetes Secret that mirrors files of the volume."""
    STORE = "store"
    """Where classes are read and Secrets, pod statuses and events are written."""


class KeyferryError(Exception):
    """The root. Raised never directly; caught where a call entered.

    Args:
        problem: what happened, naming the field, the object or the path. A sentence part without a
            full stop.
        remedy: what the reader can do about it, a whole sentence. May be empty where the problem
            says it all.
        stage: where it happened, when the class of the error leaves that open.

    Attributes:
        object_name: the object of the vault that it is about, such as `secret db-password`; "" for
            none.
    """

    code: int = Code.UNKNOWN
    reason: str = "FailedToMount"
    stage: Stage = Stage.REQUEST
    object_name: str = ""

    def __init__(self, problem: str, remedy: str = "", *, stage: Stage | None = None) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        if stage is not None:
            self.stage = stage

    def __str__(self) -> str:
        """The problem and the remedy, as a person reads them."""
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem

    def log_pairs(self) -> dict[str, str]:
        """What a line of the log says of it: where, about which object, and why."""
        about = {"object": self.object_name} if self.object_name else {}
        return {"stage": self.stage.value, **about, "error": str(self)}


# --- whoever writes the class or the pod must act ---


class AuthorError(KeyferryError):
    """The SecretProviderClass or the pod says something that cannot be carried out."""

    stage = Stage.CLASS


class ClassNotFoundError(AuthorError):
    """There is no such SecretProviderClass in the namespace of the pod."""

    reason = "SecretProviderClassNotFound"


class ClassInvalidError(AuthorError):
    """The SecretProviderClass is there, but a field of it is missing or malformed."""


class ObjectNamesError(AuthorError):
    """An `objectName` of `secretObjects` is unknown or ambiguous.

    The message lists the candidates.
    """

    reason = "FailedToCreateSecret"
    stage = Stage.SECRET


class SecretDataError(AuthorError):
    """The files named by a `secretObjects` entry cannot make a Secret of its type."""

    reason = "FailedToCreateSecret"
    stage = Stage.SECRET


# --- whoever runs the cluster or the machine must act ---


class PlatformError(KeyferryError):
    """Something about the node, the installation or the caller."""


class RequestInvalidError(PlatformError):
    """The call itself is malformed (CSI says INVALID_ARGUMENT)."""

    code = Code.INVALID_ARGUMENT


class VolumeUnpublishedError(PlatformError):
    """The volume was taken away while this call was filling it.

    CSI calls it ABORTED: another operation on the same volume came in between.

    Args:
        target_path: of the volume.
    """

    code = Code.ABORTED

    def __init__(self, target_path: str) -> None:
        super().__init__(
            f"the volume at {target_path} was unpublished while it was being published",
            "Nothing is left of it; a pod that is still wanted is tried again by itself.",
        )


class ProviderNotFoundError(PlatformError):
    """No built-in provider and no provider socket bears the name that the class gives."""

    stage = Stage.PROVIDER
    reason = ""


class ProviderUnreachableError(PlatformError):
    """The socket of a provider exists but nobody answers on it."""

    stage = Stage.PROVIDER
    code = Code.UNAVAILABLE
    reason = "GRPCProviderError"


class VolumeError(PlatformError):
    """The mount point cannot be inspected, mounted or unmounted."""

    stage = Stage.VOLUME
    code = Code.INTERNAL
    reason = "FailedToEnsureMountPoint"


class StoreError(PlatformError):
    """Classes cannot be read, or Secrets, statuses and events cannot be written."""

    stage = Stage.STORE
    reason = ""


class StoreUnavailableError(StoreError):
    """The store does not answer now, or cannot do it now; later it may."""


class SecretNotManagedError(StoreError):
    """A Secret of that name is there that Keyferry did not make."""


class SecretConflictError(StoreError):
    """Another class has the Secret.

    Attributes:
        owner_class: the name of that class.
    """

    def __init__(self, problem: str, remedy: str, *, owner_class: str) -> None:
        super().__init__(problem, remedy)
        self.owner_class = owner_class


# --- whoever runs the vault or its permissions must act ---


class ProviderError(KeyferryError):
    """A provider could not deliver; the volume keeps what it had."""

    stage = Stage.PROVIDER
    reason = "GRPCProviderError"


class ProviderReportedError(ProviderError):
    """A provider answered with an error code, or a gRPC status, which passes through."""

    def __init__(self, problem: str, remedy: str = "", *, code: int, reason: str) -> None:
        super().__init__(problem, remedy)
        self.code = code
        self.reason = reason


class FilesInvalidError(ProviderError):
    """A provider delivered files whose paths cannot be written into a volume."""

    stage = Stage.VOLUME
    reason = "FileWriteError"


class VaultError(ProviderError):
    """A vault or the way to it failed: token endpoint, DNS, TLS, permission, object."""

    stage = Stage.VAULT


class ConnectionFailedError(VaultError):
    """No usable answer came: DNS, TCP, TLS, a time-out, or a connection closed half way.

    `stage` says which.
    """

    stage = Stage.CONNECT


class IdentityError(VaultError):
    """The token endpoint refused, or the identity of the class cannot be used here."""

    stage = Stage.IDENTITY


class AccessDeniedError(VaultError):
    """The vault does not let the identity read (403), or refuses its token (401)."""


class ObjectNotFoundError(VaultError):
    """The vault has no such object or version, or it is disabled."""

    stage = Stage.OBJECT


class ObjectUnusableError(VaultError):
    """The object cannot be delivered as the class asks (an encoding, a format)."""

    stage = Stage.OBJECT


class VaultThrottledError(VaultError):
    """The vault said 429 more often, or asked for a longer pause, than one mount can wait.

    Attributes:
        retry_after: seconds the vault asked for, or None.
    """

    def __init__(self, problem: str, remedy: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(problem, remedy)
        self.retry_after = retry_after


class VaultUnavailableError(VaultError):
    """The vault has given no answer for a while, and is left alone until it is tried again."""


# --- we must act ---


class InternalError(KeyferryError):
    """A defect of Keyferry. The message names the step, never a value."""

    code = Code.INTERNAL
