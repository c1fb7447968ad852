"""Parameters of a SecretProviderClass that all providers share. [pure]

Those of `ObjectDefaults` belong to the providers. Those of `VolumeOptions` belong to the driver, so
they also work with external providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import FileOwner  # noqa: TC001 (msgspec)
from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.go_values import parse_duration
from keyferry.formats.volume_paths import path_problem
from keyferry.formats.yaml_text import YamlError, YamlList, YamlMap, YamlScalar, read_yaml
from keyferry.rendering.fields import (
    is_variable_name,
    parse_mode,
    parse_owner,
    parse_switch,
    scalar_text,
)
from keyferry.rendering.object_options import NO_DEFAULTS, ObjectDefaults, parse_on_missing
from keyferry.rendering.templates import parse_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.yaml_text import YamlNode

MAX_ENV_NAME = 128
"""The maximum length of the name of a variable in a file that kubelet reads."""
MAX_TEMPLATES = 100
"""The maximum number of templates of one SecretProviderClass."""


class TemplateOptions(Struct, frozen=True):
    """One entry of `templates`.

    Attributes:
        path: of the file in the volume.
        template: its text.
        mode: permission bits; None for the default of the mount.
        owner: of the file; None for that of the volume.
    """

    path: str
    template: str
    mode: int | None = None
    owner: FileOwner | None = None


class EnvFileOptions(Struct, frozen=True):
    """The file with environment variables.

    Attributes:
        path: of the file in the volume.
        names: names of variables by path of the file, where they are not derived from it; "" for a
            file that is left out.
    """

    path: str
    names: tuple[tuple[str, str], ...] = ()


class VolumeOptions(Struct, frozen=True):
    """The options of one volume.

    Attributes:
        owner: of files without an owner of their own; None for the user of the driver.
        refresh_interval: seconds between two refreshes; 0: never; None: as the driver is set.
        env_file: the file with environment variables; None without one.
        templates: files that are made from others.
    """

    owner: FileOwner | None = None
    refresh_interval: float | None = None
    env_file: EnvFileOptions | None = None
    templates: tuple[TemplateOptions, ...] = ()

    @property
    def derives_files(self) -> bool:
        """Whether files are made from other files of the volume."""
        return bool(self.templates) or self.env_file is not None

    @property
    def derived_paths(self) -> tuple[str, ...]:
        """The paths of these files."""
        templates = tuple(each.path for each in self.templates)
        return (*templates, self.env_file.path) if self.env_file else templates


NO_VOLUME_OPTIONS = VolumeOptions()
ROTATION_POLL_INTERVAL = "rotationPollInterval"
DERIVING_PARAMETERS = ("envFile", "envNames", "templates")
"""The parameters of files that are made from other files."""


def parse_object_defaults(parameters: Mapping[str, str]) -> ObjectDefaults:
    """Return what a SecretProviderClass sets for all its objects.

    Raises:
        ClassInvalidError: a parameter is malformed.
    """
    defaults = ObjectDefaults(
        optional=parse_switch("optional", parameters.get("optional")),
        keeps=parse_on_missing(parameters.get("onMissing")),
        owner=parse_owner(parameters.get("fileOwner")),
    )
    return NO_DEFAULTS if defaults == NO_DEFAULTS else defaults


def parse_volume_options(parameters: Mapping[str, str]) -> VolumeOptions:
    """Return the options of a volume.

    Args:
        parameters: of the SecretProviderClass, overridden by the attributes of the pod.

    Raises:
        ClassInvalidError: a parameter is malformed.
    """
    return VolumeOptions(
        parse_owner(parameters.get("fileOwner")),
        _refresh_interval(parameters.get(ROTATION_POLL_INTERVAL, "").strip()),
        _env_file(parameters),
        _templates(parameters.get("templates", "")),
    )


def refresh_interval_of(*attributes: Mapping[str, str]) -> float | None:
    """Return the refresh interval of a volume; None for that of the driver.

    Args:
        attributes: of the SecretProviderClass, then of the pod, which overrides it. An invalid
            value counts as none: a mount reports it.
    """
    for each in reversed(attributes):
        if text := each.get(ROTATION_POLL_INTERVAL, "").strip():
            try:
                return _refresh_interval(text)
            except ClassInvalidError:
                return None
    return None


def _refresh_interval(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        problem = f"{ROTATION_POLL_INTERVAL} is not a duration: '{excerpt(text)}'"
        raise ClassInvalidError(
            problem, "Write a duration such as 6h; 0 keeps the content as it was mounted."
        )
    return seconds


def _env_file(parameters: Mapping[str, str]) -> EnvFileOptions | None:
    path = parameters.get("envFile", "").strip()
    names = _env_names(parameters.get("envNames", ""))
    if not path:
        if names:
            remedy = "Set envFile to the path of the file, such as .env."
            raise ClassInvalidError("envNames is set, but envFile is not", remedy)
        return None
    if problem := path_problem(path):
        raise ClassInvalidError(
            f"envFile '{excerpt(path)}' {problem}", "Choose another path, such as .env."
        )
    return EnvFileOptions(path, names)


def _env_names(text: str) -> tuple[tuple[str, str], ...]:
    root = _read("envNames", text)
    if root is None:
        return ()
    if not isinstance(root, YamlMap):
        remedy = "Write one line 'FILE: NAME' per file below envNames: |."
        raise ClassInvalidError(f"envNames is not a mapping (line {root.line} of envNames)", remedy)
    names: dict[str, str] = {}
    for path, node in root.entries.items():
        try:
            name = _env_name(path, (scalar_text(root.entries, path) or "").strip())
            others = [other for other, taken in names.items() if name and taken == name]
            if others:
                raise ClassInvalidError(
                    f"'{excerpt(others[0])}' and '{excerpt(path)}' have the same name {name}",
                    "Choose another name for one of them.",
                )
        except ClassInvalidError as error:
            problem = f"envNames: {error.problem} (line {node.line} of envNames)"
            raise ClassInvalidError(problem, error.remedy) from None
        names[path] = name
    return tuple(names.items())


def _env_name(path: str, name: str) -> str:
    if problem := path_problem(path):
        raise ClassInvalidError(
            f"the path '{excerpt(path)}' {problem}", "Write the path of a file of the volume."
        )
    if name and (len(name) > MAX_ENV_NAME or not is_variable_name(name)):
        raise ClassInvalidError(
            f"'{excerpt(name)}' cannot be the name of an environment variable",
            f"Use at most {MAX_ENV_NAME} letters, digits and '_', and do not begin with a"
            ' digit; "" leaves the file out.',
        )
    return name


def _templates(text: str) -> tuple[TemplateOptions, ...]:
    root = _read("templates", text)
    if root is None:
        return ()
    if not isinstance(root, YamlList):
        raise ClassInvalidError(
            f"templates is not a list (line {root.line} of templates)",
            "Write one '- path: FILE' with its template: | per file below templates: |.",
        )
    if len(root.present) > MAX_TEMPLATES:
        problem = f"templates lists {len(root.present)} files; at most {MAX_TEMPLATES} are allowed"
        raise ClassInvalidError(problem, "Split the SecretProviderClass.")
    return tuple(_template(node, index) for index, node in enumerate(root.present))


def _template(node: YamlNode, index: int) -> TemplateOptions:
    try:
        if not isinstance(node, YamlMap):
            raise ClassInvalidError("it is not a mapping", "Write path: FILE and template: |.")
        path = (scalar_text(node.entries, "path") or "").strip()
        template = scalar_text(node.entries, "template")
        if not path:
            raise ClassInvalidError("path is missing", "Set it to the path of the file.")
        if problem := path_problem(path):
            raise ClassInvalidError(f"path '{excerpt(path)}' {problem}", "Choose another path.")
        if template is None:
            raise ClassInvalidError("template is missing", "Write it below template: |.")
        parse_template(template)
        return TemplateOptions(
            path,
            template,
            parse_mode(scalar_text(node.entries, "filePermission")),
            parse_owner(scalar_text(node.entries, "fileOwner")),
        )
    except ClassInvalidError as error:
        place = f"templates[{index}], line {node.line} of templates"
        raise ClassInvalidError(f"{place}: {error.problem}", error.remedy) from None


def _read(name: str, text: str) -> YamlNode | None:
    """Return the YAML of a parameter; None if it is empty."""
    if not text.strip():
        return None
    try:
        root = read_yaml(text)
    except YamlError as error:
        problem = f"{name}: {error.detail} (line {error.line} of {name})"
        raise ClassInvalidError(problem, error.remedy) from None
    return None if isinstance(root, YamlScalar) and root.is_null else root
