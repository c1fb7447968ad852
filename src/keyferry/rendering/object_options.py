"""Options of an entry of `objects` that all built-in providers share. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.unknown_fields import FieldTable, correct_missing
from keyferry.formats.volume_paths import path_problem
from keyferry.formats.yaml_text import YamlList, YamlMap, YamlScalar
from keyferry.rendering.extraction import check_expression
from keyferry.rendering.fields import parse_mode, parse_owner, parse_switch, scalar_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.content import FileOwner
    from keyferry.formats.yaml_text import YamlNode

MAX_JMES_PATHS = 100
"""The maximum number of values that one object is split into by `jmesPath`."""


class ObjectDefaults(Struct, frozen=True):
    """What a SecretProviderClass sets for all its objects.

    Attributes:
        optional: whether objects may be missing.
        keeps: whether a volume keeps the files of objects that disappear.
        owner: owner of files; None for the user of the driver.
    """

    optional: bool = False
    keeps: bool = True
    owner: FileOwner | None = None


NO_DEFAULTS = ObjectDefaults()


class JmesPath(Struct, frozen=True):
    """One value inside of an object, delivered as a file of its own.

    Attributes:
        expression: the JMESPath expression.
        path: of the file in the volume.
        mode: permission bits; None: those of the object.
        owner: of the file; None: that of the object.
    """

    expression: str
    path: str
    mode: int | None = None
    owner: FileOwner | None = None


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """The options of one object.

    Attributes:
        optional: whether the vault may lack the object.
        default: content of the file of a missing object; None without one.
        keeps: whether the volume keeps the files of the object if it disappears.
        jmes_paths: values that become files of their own, in addition to the whole object.
        expand_keys: whether each top-level key becomes a file, instead of the whole object.
        is_yaml: whether the value is YAML; otherwise it is JSON.
        owner: of the files; None for the user of the driver.
    """

    optional: bool = False
    default: str | None = field(default=None, repr=False)
    keeps: bool = True
    jmes_paths: tuple[JmesPath, ...] = ()
    expand_keys: bool = False
    is_yaml: bool = False
    owner: FileOwner | None = None

    @property
    def extracts(self) -> bool:
        """Whether files are made from values inside of the object."""
        return self.expand_keys or bool(self.jmes_paths)

    @property
    def extracted_paths(self) -> tuple[str, ...]:
        """The paths of the files of `jmesPath`."""
        return tuple(each.path for each in self.jmes_paths)


NO_OPTIONS = ObjectOptions()


def parse_object_options(
    fields: Mapping[str, YamlNode], defaults: ObjectDefaults = NO_DEFAULTS
) -> ObjectOptions:
    """Return the options in an entry of `objects`.

    Args:
        fields: of the entry.
        defaults: of the SecretProviderClass.

    Raises:
        ClassInvalidError: an option is malformed. The message names no place.
    """
    if defaults is NO_DEFAULTS and not _FIELDS.intersection(fields):
        return NO_OPTIONS
    default = scalar_text(fields, "default")
    optional = parse_switch("optional", scalar_text(fields, "optional"), default=defaults.optional)
    if default is not None and scalar_text(fields, "optional") is not None and not optional:
        raise ClassInvalidError(
            "default is set, but optional is false",
            "Remove default, or set optional: true.",
        )
    jmes_paths = _jmes_paths(fields)
    expand_keys = parse_switch("expandKeys", scalar_text(fields, "expandKeys"))
    is_yaml = parse_switch("yaml", scalar_text(fields, "yaml"))
    if is_yaml and not (jmes_paths or expand_keys):
        raise ClassInvalidError(
            "yaml is true, but neither jmesPath nor expandKeys reads the value",
            "Remove yaml, or add jmesPath or expandKeys.",
        )
    return ObjectOptions(
        optional=optional or default is not None,
        default=default,
        keeps=parse_on_missing(scalar_text(fields, "onMissing"), default=defaults.keeps),
        jmes_paths=jmes_paths,
        expand_keys=expand_keys,
        is_yaml=is_yaml,
        owner=parse_owner(scalar_text(fields, "fileOwner")) or defaults.owner,
    )


_FIELDS = frozenset(
    ("optional", "default", "onMissing", "jmesPath", "expandKeys", "yaml", "fileOwner")
)


def parse_on_missing(text: str | None, *, default: bool = True) -> bool:
    """Return whether a volume keeps the files of an object that disappears.

    Args:
        text: `keep` or `remove`; None or "" for the default.
        default: the result without a text.

    Raises:
        ClassInvalidError: it is another word.
    """
    word = (text or "").strip()
    if word not in ("", "keep", "remove"):
        raise ClassInvalidError(
            f"onMissing '{excerpt(word)}' is neither keep nor remove",
            "Set onMissing: keep to keep the last content of an object that disappears, or "
            "onMissing: remove to remove its files.",
        )
    return word == "keep" if word else default


def _jmes_paths(fields: Mapping[str, YamlNode]) -> tuple[JmesPath, ...]:
    node = fields.get("jmesPath")
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        return ()
    if not isinstance(node, YamlList):
        raise ClassInvalidError(
            "jmesPath is not a list",
            "Write one '- path: EXPRESSION' with its objectAlias per value below jmesPath:.",
        )
    if len(node.present) > MAX_JMES_PATHS:
        problem = f"jmesPath lists {len(node.present)} values; at most {MAX_JMES_PATHS} are allowed"
        raise ClassInvalidError(problem, "Use expandKeys: true to deliver all keys as files.")
    return tuple(_jmes_path(item, index) for index, item in enumerate(node.present))


def _jmes_path(node: YamlNode, index: int) -> JmesPath:
    place = f"jmesPath[{index}]"
    if not isinstance(node, YamlMap):
        remedy = "Write path: EXPRESSION and objectAlias: FILE."
        raise ClassInvalidError(f"{place} is not a mapping", remedy)
    try:
        texts = {name: (scalar_text(node.entries, name) or "").strip() for name in _JMES_FIELDS}
        for name, meaning in _JMES_FIELDS.items():
            if meaning and not texts[name]:
                remedy = f"Set it to {meaning}."
                written, remedy = correct_missing(JMES_PATH, (name,), node.entries, remedy)
                raise ClassInvalidError(f"{name} is missing{written}", remedy)
        check_expression(texts["path"])
        if problem := path_problem(texts["objectAlias"]):
            raise ClassInvalidError(
                f"objectAlias '{excerpt(texts['objectAlias'])}' {problem}",
                "Set another objectAlias.",
            )
        return JmesPath(
            texts["path"],
            texts["objectAlias"],
            parse_mode(texts["filePermission"]),
            parse_owner(texts["fileOwner"]),
        )
    except ClassInvalidError as error:
        raise ClassInvalidError(f"{place}: {error.problem}", error.remedy) from None


_JMES_FIELDS = {
    "path": "a JMESPath expression, such as database.password",
    "objectAlias": "the path of the file in the volume",
    "filePermission": "",
    "fileOwner": "",
}

JMES_PATH = FieldTable(
    _JMES_FIELDS,
    synonyms={
        **dict.fromkeys(("expression", "jmesPath", "jmespath", "query", "key", "property"), "path"),
        **dict.fromkeys(
            ("alias", "name", "file", "fileName", "filePath", "objectName", "secretKey"),
            "objectAlias",
        ),
        **dict.fromkeys(("mode", "fileMode", "permission", "permissions"), "filePermission"),
        **dict.fromkeys(("owner", "user", "uid", "runAsUser"), "fileOwner"),
    },
)
"""The fields of an entry of `jmesPath`."""
