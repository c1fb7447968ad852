"""The exit code of each error, and the page that documents them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keyferry import errors
from keyferry.cli.exit_codes import ExitCode, exit_code
from keyferry.errors import KeyferryError

PAGE = Path(__file__).parents[3] / "docs/reference/cli.md"

CODES = {
    "KeyferryError": 1,
    "AuthorError": 2,
    "ClassNotFoundError": 2,
    "ClassInvalidError": 2,
    "ObjectNamesError": 2,
    "SecretDataError": 2,
    "MountLimitError": 2,
    "PlatformError": 1,
    "RequestInvalidError": 2,
    "SettingInvalidError": 2,
    "VolumeUnpublishedError": 1,
    "ProviderNotFoundError": 2,
    "ProviderUnreachableError": 1,
    "VolumeError": 1,
    "OutOfDescriptorsError": 1,
    "StoreError": 1,
    "StoreUnavailableError": 1,
    "SecretNotManagedError": 1,
    "SecretConflictError": 1,
    "ProviderError": 3,
    "ProviderReportedError": 3,
    "FilesInvalidError": 3,
    "VaultError": 3,
    "ConnectionFailedError": 4,
    "IdentityError": 3,
    "AccessDeniedError": 3,
    "ObjectNotFoundError": 3,
    "ObjectUnusableError": 3,
    "VaultThrottledError": 4,
    "VaultUnavailableError": 4,
    "InternalError": 1,
}


def kinds() -> dict[str, type[KeyferryError]]:
    """The error types of the tree by name."""
    found = vars(errors).values()
    return {
        kind.__name__: kind
        for kind in found
        if isinstance(kind, type) and issubclass(kind, KeyferryError)
    }


def test_every_error_has_an_exit_code() -> None:
    """Who must act decides: the author, the operator of the vault, or somebody on this machine."""
    made = {name: kind.__new__(kind) for name, kind in kinds().items()}
    found = {name: int(exit_code(error)) for name, error in made.items()}
    assert CODES == {name: code for name, code in found.items() if name in CODES}


def test_outage_of_a_vault_is_worth_a_retry() -> None:
    """Whatever the type of the error."""
    error = errors.IdentityError("the token endpoint failed with status 503")
    assert ExitCode.REFUSED is exit_code(error)
    error.is_outage = True
    assert ExitCode.UNAVAILABLE is exit_code(error)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 125, 126, 127])
def test_every_exit_code_is_documented(code: int) -> None:
    assert re.search(rf"^\| {code} \|", PAGE.read_text(), re.MULTILINE)
