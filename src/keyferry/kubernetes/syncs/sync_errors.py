"""Errors about a SecretSync. [pure]"""

from __future__ import annotations

from keyferry.errors import AuthorError, Code, IdentityError, Stage


class SyncInvalidError(AuthorError):
    """A field of a SecretSync is missing or invalid."""

    code = Code.INVALID_ARGUMENT
    stage = Stage.REQUEST


class ReservedLabelError(SyncInvalidError):
    """`secretObject.labels` has a label that is reserved for the controller."""


class ReservedAnnotationError(SyncInvalidError):
    """`secretObject.annotations` has an annotation that is reserved for the controller."""


class TokenRequestError(IdentityError):
    """The Kubernetes API issues no token for the service account of a SecretSync.

    Args:
        problem: see `KeyferryError`.
        remedy: see `KeyferryError`.
        retryable: whether the same request can succeed without a change in the cluster.
    """

    def __init__(self, problem: str, remedy: str, *, retryable: bool = False) -> None:
        super().__init__(problem, remedy)
        self.retryable = retryable


class CredentialsSecretError(IdentityError):
    """The Secret with credentials that a SecretSync names is missing or cannot be used."""
