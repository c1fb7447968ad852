"""Writes docs/reference/flags.md, from the tables that the commands themselves read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.driver import FLAGS
from keyferry.cli.provider_fronts import front_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.cli.goflags import GoFlag

_HEAD = """\
# Flags

Made from the code by `scripts/flags_page.py`; a test holds it to the code.

Flags are written as Go programs take them: one or two dashes, `--name=value` or `--name value`, a
boolean as `--name` or `--name=false`. Of a flag that is given twice the last one counts. Durations
are written `30s`, `2m`, `1h30m`. An unknown flag, or a value that cannot be understood, ends the
start with an error that names the flag.

The values of the chart that set them are in `charts/keyferry/values.yaml`; flags without a value
go into `linux.extraArgs`. The commands for people (`mount`, `unmount`, `demo`, `devvault`) tell
their options with `--help`.
"""

_SECTIONS = (
    ("keyferry driver", FLAGS),
    ("keyferry provider azure", front_of("azure").flags),
    ("keyferry provider vault", front_of("vault").flags),
)
_TAIL = """
`keyferry provider openbao` has the flags of `keyferry provider vault`, with `openbao` and `BAO_` in
the place of `vault` and `VAULT_`.
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_section(*each) for each in _SECTIONS) + _TAIL


def _section(title: str, flags: Sequence[GoFlag]) -> str:
    silent = ", ".join(f"`--{flag.name}`" for flag in flags if flag.without_meaning)
    without = f"\nAccepted, each with one warning, and without effect: {silent}.\n"
    rows = "\n".join(_rows(flags))
    return (
        f"\n## {title}\n\n| flag | default | meaning |\n|---|---|---|\n{rows}\n"
        f"{without if silent else ''}"
    )


def _rows(flags: Sequence[GoFlag]) -> Iterator[str]:
    for flag in flags:
        if not flag.without_meaning:
            default = f"`{flag.default}`" if flag.default else ""
            yield f"| `--{flag.name}` | {default} | {flag.help} |"


if __name__ == "__main__":
    print(page(), end="")
