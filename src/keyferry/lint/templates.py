"""The files that templates of a SecretProviderClass name, as far as its parameters decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, prefixed
from keyferry.lint.class_content import content_of
from keyferry.rendering.class_options import parse_volume_options
from keyferry.rendering.templates import expression_of, missing_name_error, parse_template

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass


def templates_problem(spc: SecretProviderClass) -> AuthorError | None:
    """Return the error of the first template that cannot be rendered by any mount.

    Args:
        spc: a SecretProviderClass with valid options.
    """
    for option in parse_volume_options(spc.parameters).templates:
        try:
            template = parse_template(option.template)
            content = content_of(spc, template.names)
            if content is None:
                return None
            paths = frozenset(file.path for file in content.files)
            for name in sorted(template.names - paths):
                raise missing_name_error(expression_of(template, name), paths)
        except AuthorError as error:
            return prefixed(f"template '{option.path}'", error)
    return None
