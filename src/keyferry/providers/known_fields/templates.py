"""The fields of the entries of `templates`, which all providers share. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.unknown_fields import FieldTable
from keyferry.formats.yaml_text import YamlError, YamlList, YamlMap, read_yaml
from keyferry.providers.known_fields.names import ignored_documents
from keyferry.providers.known_fields.yaml_fields import find_in_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from keyferry.formats.unknown_fields import UnknownField

TEMPLATE = FieldTable(
    ("path", "template", "filePermission", "fileOwner"),
    synonyms={
        **dict.fromkeys(
            ("name", "file", "fileName", "filePath", "objectAlias", "objectName", "target"), "path"
        ),
        **dict.fromkeys(("content", "contents", "text", "data", "value"), "template"),
        **dict.fromkeys(("mode", "fileMode", "permission", "permissions"), "filePermission"),
        **dict.fromkeys(("owner", "user", "uid", "runAsUser"), "fileOwner"),
    },
)


def unknown_template_fields(parameters: Mapping[str, str], path: str) -> Iterator[UnknownField]:
    """Yield the fields of templates that have no effect.

    Args:
        parameters: of a SecretProviderClass, or `volumeAttributes` of a pod.
        path: of the parameters, for messages.
    """
    text = parameters.get("templates", "")
    try:
        root = read_yaml(text)
    except YamlError:
        return  # the mount reports it
    yield from ignored_documents(f"{path}.templates", text)
    for index, item in enumerate(root.present if isinstance(root, YamlList) else ()):
        if isinstance(item, YamlMap):
            yield from find_in_yaml(TEMPLATE, f"{path}.templates[{index}]", item, text)
