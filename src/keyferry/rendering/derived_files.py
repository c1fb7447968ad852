"""Makes files of a volume from its other files. [pure]

It reads content of a tenant, so it runs as a parse job.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import DEFAULT_MAX_BYTES, SecretFile
from keyferry.errors import (
    ClassInvalidError,
    MountLimitError,
    ObjectUnusableError,
    excerpt,
    prefixed,
)
from keyferry.formats.volume_paths import path_conflict
from keyferry.records import replace
from keyferry.rendering.class_options import (  # noqa: TC001 (msgspec)
    EnvFileOptions,
    TemplateOptions,
)
from keyferry.rendering.env_file import MAX_FILE_BYTES, common_access, env_file, variable_names
from keyferry.rendering.templates import (
    expression_of,
    missing_name_error,
    parse_template,
    render_template,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from keyferry.rendering.class_options import VolumeOptions


class DerivedFilesRequest(Struct, frozen=True):
    """The argument of the job.

    Attributes:
        files: the files that others are made from.
        absent: paths of files that optional objects would have, and folders of them.
        env_file: the file with environment variables; None without one.
        sources: the files that templates use.
        templates: those whose files exist.
    """

    files: tuple[SecretFile, ...]
    absent: tuple[str, ...]
    env_file: EnvFileOptions | None = None
    sources: tuple[SecretFile, ...] = ()
    templates: tuple[TemplateOptions, ...] = ()


def derived_files_request(
    files: Sequence[SecretFile], options: VolumeOptions, absent: Iterable[str] = ()
) -> DerivedFilesRequest | None:
    """Return the argument of the job; None if no file is made from others.

    Only files that others are made from are part of it.

    Args:
        files: all files of the volume.
        options: of the volume.
        absent: paths of files that optional objects would have, and folders of them.

    Raises:
        AuthorError: names or sizes are impossible, whatever the files contain.
    """
    if not options.derives_files:
        return None
    absent = tuple(absent)
    templates, names_used = _possible_templates(files, options, absent)
    sources = tuple(file for file in files if file.path in names_used)
    if options.env_file is None:
        return DerivedFilesRequest((), absent, None, sources, templates)
    names = variable_names([file.path for file in files], options.env_file, absent)
    chosen = tuple(file for file in files if file.path in names)
    size = sum(len(file.contents) for file in chosen)
    if size > MAX_FILE_BYTES:
        raise MountLimitError(
            f"envFile '{options.env_file.path}' would have more than {size} bytes, and kubelet"
            f" reads at most {MAX_FILE_BYTES}",
            "Leave large files out of it: write 'FILE: \"\"' below envNames: |.",
        )
    left_out = tuple(path for path, name in options.env_file.names if not name)
    return DerivedFilesRequest(chosen, (*absent, *left_out), options.env_file, sources, templates)


def derive_files(request: DerivedFilesRequest) -> tuple[SecretFile, ...]:
    """Return the files that are made from others.

    Raises:
        KeyferryError: a name or a value is impossible.
    """
    derived = _from_templates(request)
    if request.env_file is not None:
        derived.append(env_file(request.files, request.env_file, request.absent))
    return tuple(derived)


def _possible_templates(
    files: Sequence[SecretFile], options: VolumeOptions, absent: tuple[str, ...]
) -> tuple[tuple[TemplateOptions, ...], frozenset[str]]:
    """Return the templates whose files all exist, and the paths of these files.

    A template that needs a missing optional object is left out.

    Raises:
        ClassInvalidError: a template is invalid, or names a file that cannot exist.
    """
    paths = frozenset(file.path for file in files)
    own = frozenset(each.path for each in options.templates)
    _check_paths(paths, options, absent)
    possible: list[TemplateOptions] = []
    used: set[str] = set()
    for each in options.templates:
        with _about(each):
            template = parse_template(each.template)
            lost = template.names - paths
            for name in sorted(lost):
                if name in own:
                    raise ClassInvalidError(
                        f"'{excerpt(name)}' is itself made by a template",
                        "Use the files of objects.",
                    )
                if not any(name == one or name.startswith(f"{one}/") for one in absent):
                    raise missing_name_error(expression_of(template, name), paths)
        if not lost:
            is_constant = not template.names and each.owner is None
            possible.append(replace(each, owner=options.owner) if is_constant else each)
            used |= template.names
    return tuple(possible), frozenset(used)


def _check_paths(paths: frozenset[str], options: VolumeOptions, absent: tuple[str, ...]) -> None:
    derived = options.derived_paths
    clash = path_conflict([*paths, *derived]) or _later_conflict(derived, absent)
    if clash is not None:
        first, second = map(excerpt, clash)
        problem = f"two files have the path '{first}', one of them from templates or envFile"
        if first != second:
            problem = f"'{first}' would be a file and the folder of '{second}'"
        raise ClassInvalidError(problem, "Choose another path in templates or envFile.")


def _later_conflict(derived: Iterable[str], absent: Iterable[str]) -> tuple[str, str] | None:
    """Return two paths that will conflict once an optional object exists, or None.

    A path below one of `absent` is no conflict: that may be a folder.
    """
    pairs = ((path, other) for path in derived for other in absent)
    return next(
        (pair for pair in pairs if pair[0] == pair[1] or pair[1].startswith(f"{pair[0]}/")), None
    )


def _from_templates(request: DerivedFilesRequest) -> list[SecretFile]:
    contents = {file.path: file.contents for file in request.sources}
    made: list[SecretFile] = []
    size = 0
    for each in request.templates:
        with _about(each):
            template = parse_template(each.template)
            sources = [file for file in request.sources if file.path in template.names]
            mode, owner = common_access(sources)
            file = SecretFile(
                each.path,
                mode if each.mode is None else each.mode,
                render_template(template, contents),
                each.owner or owner,
            )
            made.append(file)
            size += len(file.contents)
        if size > DEFAULT_MAX_BYTES:
            raise MountLimitError(
                f"the files of templates would have more than {DEFAULT_MAX_BYTES} bytes together",
                "Use fewer templates, or smaller objects in them.",
            )
    return made


@contextmanager
def _about(template: TemplateOptions) -> Iterator[None]:
    """Begin the errors of the block with the template."""
    try:
        yield
    except (ClassInvalidError, ObjectUnusableError) as error:
        raise prefixed(f"template '{excerpt(template.path)}'", error) from None
