"""The variables in the file that a SecretProviderClass makes, as far as they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError
from keyferry.lint.class_content import selects_objects
from keyferry.providers.registry import files_of
from keyferry.rendering.class_options import parse_volume_options
from keyferry.rendering.env_file import variable_names

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.rendering.class_options import EnvFileOptions

_PARTS = (".crt", ".key")
"""Ends of the separate files of an object, if it is a certificate."""


def variables_problem(spc: SecretProviderClass) -> AuthorError | None:
    """Return why the files of a SecretProviderClass cannot be environment variables.

    Args:
        spc: a SecretProviderClass with valid options.
    """
    env_file = parse_volume_options(spc.parameters).env_file
    paths = _paths(spc)
    if env_file is None or paths is None:
        return None
    try:
        _names([path for path in paths if not _is_part(path, paths)], env_file)
    except AuthorError as error:
        return error
    return None


def variables_of(spc: SecretProviderClass) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the names of all variables, and of those that exist only for certificates.

    None without a file of variables, or if they are not known.

    Raises:
        AuthorError: a parameter is malformed, or the files cannot be variables.
    """
    env_file = parse_volume_options(spc.parameters).env_file
    paths = _paths(spc)
    if env_file is None or paths is None:
        return None
    if any(name.is_folder for name in files_of(spc) or ()) or selects_objects(spc):
        return None
    usual = _names([path for path in paths if not _is_part(path, paths)], env_file)
    parts = [_names([path], env_file) for path in paths if _is_part(path, paths)]
    return usual, frozenset().union(*parts)


def _paths(spc: SecretProviderClass) -> list[str] | None:
    """Return the paths of all files that a mount may produce; None if they are not known."""
    named = files_of(spc)
    if named is None:
        return None
    templates = parse_volume_options(spc.parameters).templates
    return list(
        dict.fromkeys(
            [*(name.path for name in named if not name.is_folder), *(one.path for one in templates)]
        )
    )


def _is_part(path: str, paths: list[str]) -> bool:
    return path.endswith(_PARTS) and path[: -len(_PARTS[0])] in paths


def _names(paths: list[str], env_file: EnvFileOptions) -> frozenset[str]:
    # An entry of `envNames` may be for a file that is known only from the vault.
    given = [path for path, _ in env_file.names]
    return frozenset(variable_names(paths, env_file, absent=given).values())
