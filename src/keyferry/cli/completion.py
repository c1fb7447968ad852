"""`keyferry completion`: the script that completes command lines in a shell."""

from __future__ import annotations

import click

from keyferry.cli.commands import command

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
