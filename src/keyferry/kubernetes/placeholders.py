"""Finds placeholders in a SecretProviderClass that no program has replaced. [pure]"""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING, TypeVar

from keyferry.errors import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.errors import KeyferryError

E = TypeVar("E", bound="KeyferryError")

_PLACEHOLDER = re.compile(
    r"""
      \{\{[^{}]{1,100}\}\}              # {{ .Values.name }}: Helm, Jinja
    | \$\{[^{}$\s]{1,100}\}             # ${NAME}: envsubst, Terraform
    | \$\([A-Za-z_][\w.]{0,100}\)       # $(NAME): Azure Pipelines
    | \$[A-Z_][A-Z0-9_]{2,100}          # $NAME
    | \#\{[^{}\s]{1,100}\}\#            # #{NAME}#: tasks that replace tokens
    | __[A-Za-z][A-Za-z0-9_]{0,100}?__  # __NAME__
    | <[A-Za-z][\w .-]{1,100}>          # <your-vault-name>: documentation
    | %[A-Z][A-Z0-9_]{1,100}%           # %NAME%: Windows
    """,
    re.VERBOSE,
)
_FREE_TEXTS = frozenset(("templates",))
"""Parameters whose own language has braces, and whose texts may have any of the others."""


def find_placeholder(parameters: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first parameter that contains a placeholder, and the placeholder."""
    for key, value in parameters.items():
        if key in _FREE_TEXTS:
            continue
        if found := _PLACEHOLDER.search(value):
            return key, found[0]
    return None


def with_placeholder_remedy(error: E, parameters: Mapping[str, str]) -> E:
    """Return `error`, with a remedy that names a placeholder in the parameters, if there is one.

    Args:
        error: why a mount failed; it is not changed, because mounts may share it.
        parameters: of the SecretProviderClass.
    """
    found = find_placeholder(parameters)
    if found is None:
        return error
    key, placeholder = found[0], excerpt(found[1])
    remedy = (
        f"Replace the placeholder {placeholder} in spec.parameters.{excerpt(key)}, for example "
        "with helm template or envsubst."
    )
    copied = copy(error)
    is_cause = placeholder in error.problem
    copied.remedy = remedy if is_cause or not error.remedy else f"{remedy} {error.remedy}"
    return copied
