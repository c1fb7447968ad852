"""keyferry.errors: what every error of the tree knows about itself."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import grpc
import pytest

from keyferry import errors
from keyferry.errors import (
    AuthorError,
    ClassNotFoundError,
    Code,
    KeyferryError,
    PlatformError,
    ProviderError,
    ProviderReportedError,
    RequestInvalidError,
    Stage,
    VaultThrottledError,
    VolumeError,
    descriptor_error,
)


def tree(root: type[KeyferryError] = KeyferryError) -> Iterator[type[KeyferryError]]:
    """The class and everything below it in its module."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def test_the_message_is_the_problem_and_then_the_remedy() -> None:
    """A person reads what is wrong first and what to do second, as two sentences."""
    assert "it broke. Fix it." == str(KeyferryError("it broke", "Fix it."))
    assert "it broke" == str(KeyferryError("it broke"))


def test_error_can_override_its_stage() -> None:
    """The stage of its class applies by default; other errors of the class keep it."""
    assert Stage.TLS is PlatformError("x", stage=Stage.TLS).stage
    assert Stage.VOLUME is VolumeError("x").stage
    assert Stage.REQUEST is PlatformError("x").stage


@pytest.mark.parametrize("error", list(tree()), ids=lambda error: error.__name__)
def test_every_error_is_explained_and_has_a_status(error: type[KeyferryError]) -> None:
    """A docstring of its own, one of the known codes and stages, one word as its reason."""
    assert error.__doc__ is not None
    assert error.__doc__ != (error.__base__.__doc__ if error.__base__ else None)
    assert error.code in set(Code)
    assert isinstance(error.stage, Stage)
    assert error.reason == "" or error.reason.isalnum()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_lack_of_descriptors_is_found_among_the_causes(number: int) -> None:
    """The problem and the stage are kept; the remedy names the limit."""
    cause = OSError(number, "Too many open files")
    raw = descriptor_error(cause)
    assert raw is not None
    assert "too many open files" in raw.remedy
    try:
        raise VolumeError("cannot write x: Too many open files", "Check the space.") from cause
    except VolumeError as error:
        found = descriptor_error(error)
    assert found is not None
    assert ("cannot write x: Too many open files", Stage.VOLUME) == (found.problem, found.stage)
    assert "Check the space" not in str(found)


def test_other_errors_have_other_causes() -> None:
    """Also one that is its own cause."""
    looped = VolumeError("x")
    looped.__cause__ = looped
    for error in (looped, OSError(errno.ENOSPC, "No space"), OSError(), ValueError()):
        assert descriptor_error(error) is None


@pytest.mark.parametrize("code", Code)
def test_the_codes_bear_the_names_and_numbers_of_grpc(code: Code) -> None:
    """The engine needs no gRPC to name a status; the numbers are those of gRPC all the same."""
    assert code.value == grpc.StatusCode[code.name].value[0]


def test_the_reasons_are_those_that_dashboards_of_upstream_know() -> None:
    """The `error_type` labels of upstream, and the one of secretObjects.

    Source: docs/reference/upstream-driver.md#error-types
    """
    assert {
        "FailedToMount",
        "FailedToEnsureMountPoint",
        "SecretProviderClassNotFound",
        "GRPCProviderError",
        "FileWriteError",
        "FailedToCreateSecret",
        "",
    } == {error.reason for error in tree()}


def test_only_the_call_itself_is_an_invalid_argument() -> None:
    """INVALID_ARGUMENT is for the request, UNKNOWN for the class and the vault."""
    assert [RequestInvalidError] == [e for e in tree() if e.code == Code.INVALID_ARGUMENT]
    assert Code.UNKNOWN == ClassNotFoundError("x").code


def test_the_status_of_a_provider_passes_through() -> None:
    """A provider's own code and reason replace those of the class."""
    error = ProviderReportedError("x", code=7, reason="Denied")
    assert (7, "Denied") == (error.code, error.reason)
    assert isinstance(error, ProviderError)


def test_throttled_error_has_the_retry_after_seconds() -> None:
    """Seconds, or None where it asked for none."""
    assert 30.0 == VaultThrottledError("x", retry_after=30.0).retry_after
    assert VaultThrottledError("x").retry_after is None


def test_each_error_belongs_to_who_must_act() -> None:
    """Below the base class are four groups and the internal error."""
    groups = {error.__name__ for error in tree() if error.__base__ is KeyferryError}
    assert {"AuthorError", "PlatformError", "ProviderError", "InternalError"} == groups
    assert AuthorError.__module__ == errors.__name__
