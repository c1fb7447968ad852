"""`keyferry completion`: the script that completes command lines in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTIVES = {"file": 0, "dir": 16}
"""What the shell completes, too: files, or only folders."""
_NO_FILES = 4

_VARIABLE = "_KEYFERRY_COMPLETE"
"""With it, click answers the requests of the script."""


@command(
    examples=(
        "# bash, in ~/.bashrc",
        "source <(keyferry completion bash)",
        "# zsh, in ~/.zshrc after compinit",
        "source <(keyferry completion zsh)",
        "# fish",
        "keyferry completion fish > ~/.config/fish/completions/keyferry.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and flags in bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    # `source` of the class for bash also runs bash, to check its version.
    script = kind(root.command, {}, "keyferry", _VARIABLE)
    click.echo(script.source_template % script.source_vars())


def kubectl_completions(group: click.Group, words: Sequence[str]) -> str:
    """Return what the program `kubectl_complete-keyferry` prints.

    kubectl runs it with the words after `kubectl keyferry`. It reads one completion in a line, with
    its description after a tab. The last line is a directive of cobra.

    Args:
        group: the plugin.
        words: the last one is to be completed; it may be empty.

    Source: https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
    """
    from click.shell_completion import ShellComplete

    *before, incomplete = words or ("",)
    found = ShellComplete(group, {}, "kubectl keyferry", _VARIABLE).get_completions(
        before, incomplete
    )
    directives = [_DIRECTIVES[item.type] for item in found if item.type in _DIRECTIVES]
    lines = [
        f"{item.value}\t{item.help}" if item.help else item.value
        for item in found
        if item.type not in _DIRECTIVES
    ]
    return "\n".join([*lines, f":{directives[0] if directives else _NO_FILES}"])
