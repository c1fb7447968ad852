"""Writes the files of a volume as one file with environment variables. [pure]

Kubelet reads it for `fileKeyRef` of a container, from Kubernetes 1.35 on. Each variable is
`NAME='value'`; the value is literal, may have several lines, and cannot contain a single quote. A
POSIX shell reads the same variables from it.

Source: https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/3721-support-for-env-files
Source: https://github.com/kubernetes/kubernetes/blob/v1.35.4/pkg/kubelet/util/env/env_util.go
"""

from __future__ import annotations

import difflib
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from keyferry.content import SecretFile
from keyferry.errors import ClassInvalidError, ObjectUnusableError, excerpt
from keyferry.rendering.class_options import MAX_ENV_NAME
from keyferry.rendering.fields import default_variable_name, is_variable_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.content import FileOwner
    from keyferry.rendering.class_options import EnvFileOptions

MAX_FILE_BYTES = 64 * 1024
"""The maximum size of a file with variables."""
MAX_VALUE_BYTES = 32 * 1024
"""The maximum size of one value."""
_DEFAULT_MODE = 0o644


def env_file(
    files: Sequence[SecretFile], options: EnvFileOptions, absent: Iterable[str] = ()
) -> SecretFile:
    """Return the file with a variable for each of `files`, sorted by name.

    Nobody may read it who may not read all of these files: it has the permission bits that all of
    them have, and their owner. If they have several owners, it belongs to the user of the driver.

    Args:
        files: of the volume, without this one.
        options: path of the file, and names of variables.
        absent: paths of files that optional objects would have, and folders of them.

    Raises:
        ClassInvalidError: a name is not possible, or `envNames` names a file that cannot exist.
        ObjectUnusableError: a value or the whole file cannot be read by kubelet. The message
            contains no value.
    """
    if any(file.path == options.path for file in files):
        raise ClassInvalidError(
            f"envFile '{excerpt(options.path)}' is also the path of an object",
            "Choose another path, such as .env.",
        )
    names = variable_names([file.path for file in files], options, absent)
    chosen = [file for file in files if file.path in names]
    lines = sorted(_line(names[file.path], file) for file in chosen)
    contents = b"".join(lines)
    if len(contents) > MAX_FILE_BYTES:
        raise ObjectUnusableError(
            f"envFile '{excerpt(options.path)}' would have {len(contents)} bytes, and kubelet reads"
            f" at most {MAX_FILE_BYTES}",
            "Leave large files out of it: write 'FILE: \"\"' below envNames: |.",
        )
    mode, owner = common_access(chosen)
    return SecretFile(options.path, mode, contents, owner)


def variable_names(
    paths: Sequence[str], options: EnvFileOptions, absent: Iterable[str] = ()
) -> dict[str, str]:
    """Return the name of the variable of each file; a file that is left out has none.

    Args:
        paths: of the files of the volume.
        options: names that are not derived from the paths.
        absent: paths of files that optional objects would have, and folders of them.

    Raises:
        ClassInvalidError: two files have one name, a name cannot be derived, or `envNames` names a
            file that cannot exist.
    """
    given = dict(options.names)
    _require_known(given, paths, tuple(absent))
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for path in paths:
        name = given[path] if path in given else _derived_name(path)
        if not name:
            continue
        if (other := owners.setdefault(name, path)) != path:
            raise ClassInvalidError(
                f"envFile: '{excerpt(other)}' and '{excerpt(path)}' would both be the variable"
                f" {excerpt(name)}",
                f"{_rename(path)}, or {_leave_out(path)}.",
            )
        names[path] = name
    return names


def _require_known(given: Iterable[str], paths: Sequence[str], absent: tuple[str, ...]) -> None:
    for path in given:
        if path in paths or any(path == one or path.startswith(f"{one}/") for one in absent):
            continue
        close = difflib.get_close_matches(path, paths, n=1)
        question = f"Did you mean '{excerpt(close[0])}'? " if close else ""
        raise ClassInvalidError(
            f"envNames names '{excerpt(path)}', which is no file of the volume",
            f"{question}Write the path of the file: the objectAlias or objectName.",
        )


def _derived_name(path: str) -> str:
    name = default_variable_name(path)
    problem = "" if is_variable_name(name) else "begins with a digit"
    if len(name) > MAX_ENV_NAME:
        problem = f"is longer than {MAX_ENV_NAME} characters"
    if problem:
        raise ClassInvalidError(
            f"envFile: the name {excerpt(name)} of the variable for '{excerpt(path)}' {problem}",
            f"{_rename(path)}, or {_leave_out(path)}.",
        )
    return name


def _line(name: str, file: SecretFile) -> bytes:
    if problem := _value_problem(file.contents):
        raise ObjectUnusableError(
            f"envFile: '{excerpt(file.path)}' cannot be the variable {name}: its value {problem}",
            f"Read it as a file, and leave it out: write '{excerpt(file.path)}: \"\"' below"
            " envNames: |.",
        )
    return b"%s='%s'\n" % (name.encode(), file.contents)


def _value_problem(value: bytes) -> str | None:
    """Return why kubelet or the container runtime would change or refuse a value."""
    if len(value) > MAX_VALUE_BYTES:
        return f"has {len(value)} bytes, and at most {MAX_VALUE_BYTES} are possible"
    if b"\0" in value:
        return "contains a zero byte"
    try:
        value.decode()
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    if b"'" in value:
        return "contains a single quote, which ends a value in this file"
    if b"\r\n" in value:
        return "has lines that end with CR LF, and kubelet removes the CR"
    return None


def common_access(files: Sequence[SecretFile]) -> tuple[int, FileOwner | None]:
    """Return the permission bits and the owner of a file with the content of `files`."""
    mode = reduce(and_, (file.mode for file in files), _DEFAULT_MODE)
    owners = {file.owner for file in files}
    if len(owners) == 1:
        return mode, owners.pop()
    # The group of the file need not be that of each of these files.
    return mode & (0o707 | (mode & 0o007) << 3), None


def _rename(path: str) -> str:
    return f"Write '{excerpt(path)}: OTHER_NAME' below envNames: |"


def _leave_out(path: str) -> str:
    return f"'{excerpt(path)}: \"\"' to leave the file out"
