"""Classes of click commands: sections and examples in the help, and the options of all commands.

@command(examples=("keyferry get app.yaml db-password",))
@option("--version", section="Output", help="...")
def get(...): ...
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keyferry.cli.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from click.shell_completion import CompletionItem

F = TypeVar("F", bound="Callable[..., Any]")

_COMMON = "Common options"
_COMMON_OPTIONS = frozenset({"--debug", "--help", "--quiet", "--verbose"})
SECTIONS = (
    "Input",
    "Cluster",
    "Output",
    "Variables",
    "Refresh",
    "Credentials",
    "Vault requests",
    "Options",
)
"""The order of sections in the help. Others follow, then the common options."""
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Option(click.Option):
    """An option that the help lists in a section.

    Args:
        section: the title of the section.
    """

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


def option(*names: str, section: str = "Options", **attributes: Any) -> Callable[[F], F]:
    """Add an option to a command; `section` is its place in the help."""
    return click.option(*names, cls=Option, section=section, **attributes)


class _HelpWithSections(click.Command):
    """Writes options by section, then the examples.

    Args:
        examples: command lines; a line that begins with `#` explains the next one.
    """

    def __init__(self, *args: Any, examples: Iterable[str] = (), **kwargs: Any) -> None:
        kwargs["context_settings"] = _SETTINGS | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        own = {name for parameter in self.params for name in parameter.opts}
        self.params += [added for added in common_options() if not own & {*added.opts}]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section, and the sections in the order of `SECTIONS`."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or not isinstance(parameter, click.Option):
                continue
            title = _COMMON if _COMMON_OPTIONS & {*parameter.opts} else _section(parameter)
            sections.setdefault(title, []).append(record)
        for title in sorted(sections, key=_rank):
            if sections[title]:
                with formatter.section(title):
                    formatter.write_dl(sections[title])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


class Command(_HelpWithSections):
    """A command whose help has sections and examples."""


class FlagCommand(click.Command):
    """A command that parses flags in the syntax of Go itself, and prints its own help.

    Args:
        flags: returns name and help of each flag, given the words before the incomplete one.
    """

    def __init__(
        self, *args: Any, flags: Callable[[Sequence[str]], Iterable[tuple[str, str]]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._flags = flags

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the flags that begin with `incomplete`."""
        from click.shell_completion import CompletionItem

        words = next(iter(ctx.params.values()), None) or ()
        prefix = incomplete[: len(incomplete) - len(incomplete.lstrip("-"))] or "--"
        return [
            CompletionItem(f"{prefix}{name}", help=text)
            for name, text in self._flags(words)
            if f"{prefix}{name}".startswith(incomplete)
        ]


class Group(_HelpWithSections, click.Group):
    """A group whose help has whole summaries, and that suggests a command for a mistyped one."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with its summary."""
        records = [(name, self.summary(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(records)

    def summary(self, ctx: click.Context, name: str) -> str:
        """Return the first sentence of the help of a command."""
        command = self.get_command(ctx, name)
        return command.get_short_help_str(_WHOLE) if command else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin with `incomplete`, without importing them."""
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=self.summary(ctx, name))
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with.

        Raises:
            click.UsageError: no command has that name; the message suggests similar ones.
        """
        name = args[0]
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None and name[:1] != "-":
            raise click.UsageError(_no_such_command(name, self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)


Group.group_class = Group

_WHOLE = 1000
"""A limit that no summary reaches."""


def command(
    name: str | None = None,
    *,
    cls: type[Command] = Command,
    examples: Iterable[str] = (),
    **attributes: Any,
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function; `examples` are lines for the end of its help."""
    return click.command(name, cls=cls, examples=examples, **attributes)


def common_options() -> list[click.Parameter]:
    """Return the options that each command takes: `-q`, `-v` and `--debug`."""
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set_quiet,
            help="Print only errors and requested data.",
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_add_verbosity,
            help="Log what the command does to standard error; -vv logs the details.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_set_debug,
            help="Print a traceback for an error.",
        ),
    ]


def _section(parameter: click.Option) -> str:
    return parameter.section if isinstance(parameter, Option) else "Options"


def _rank(section: str) -> int:
    if section == _COMMON:
        return len(SECTIONS) + 1
    return SECTIONS.index(section) if section in SECTIONS else len(SECTIONS)


def _set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Console).quiet |= value


def _add_verbosity(ctx: click.Context, _: click.Parameter, value: int) -> None:
    ctx.ensure_object(Console).verbosity += value


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Console).debug |= value


def _no_such_command(name: str, known: list[str]) -> str:
    message = f"No such command {name!r}."
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"{message} Did you mean {' or '.join(map(repr, close))}?"
    return f"{message} Choose from: {', '.join(known)}."
