"""keyferry.rendering.derived_files: files that are made from others."""

from __future__ import annotations

import msgspec
import pytest

from keyferry.content import FileOwner, SecretFile
from keyferry.errors import ClassInvalidError, MountLimitError
from keyferry.plugins.derivation import DERIVED_FILES
from keyferry.rendering.class_options import VolumeOptions, parse_volume_options
from keyferry.rendering.derived_files import (
    DerivedFilesRequest,
    derive_files,
    derived_files_request,
)
from keyferry.rendering.env_file import MAX_FILE_BYTES

A = SecretFile("a", 0o440, b"x", FileOwner(999, 998))
LARGE = SecretFile("large", 0o644, b"x" * (MAX_FILE_BYTES + 1))


def options(names: str = "") -> VolumeOptions:
    """The options of a volume with a file of variables."""
    return parse_volume_options({"envFile": ".env", "envNames": names})


def request(files: list[SecretFile], names: str = "", *absent: str) -> DerivedFilesRequest:
    """The argument of the job."""
    made = derived_files_request(files, options(names), absent)
    assert made is not None
    return made


def test_no_job_runs_without_options() -> None:
    """Which is the usual volume."""
    assert derived_files_request([A], parse_volume_options({"fileOwner": "1"})) is None


def test_only_the_files_of_variables_are_sent_to_the_parser() -> None:
    """A file that is left out may be large; `envNames` may still name it there."""
    made = request([A, LARGE], 'large: ""\nold: OLD', "old")
    assert (A,) == made.files
    assert (SecretFile(".env", 0o440, b"A='x'\n", FileOwner(999, 998)),) == derive_files(made)


def test_files_that_are_too_large_are_not_sent() -> None:
    """The message says how to leave them out."""
    with pytest.raises(MountLimitError, match=r"envFile '\.env' would have more than .*Leave"):
        request([A, LARGE])


def test_wrong_names_are_found_before_the_job() -> None:
    """They need no content."""
    with pytest.raises(ClassInvalidError, match="envNames names 'b', which is no file"):
        request([A], "b: B")


def test_job_crosses_the_process_boundary() -> None:
    """With owners and names."""
    made = request([A], "a: NAME", "old")
    sent = msgspec.msgpack.encode(made)
    assert made == msgspec.msgpack.decode(sent, type=DERIVED_FILES.argument_type)
    result = msgspec.msgpack.encode(derive_files(made))
    assert derive_files(made) == msgspec.msgpack.decode(result, type=DERIVED_FILES.result_type)
