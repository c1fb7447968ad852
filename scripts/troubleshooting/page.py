"""Makes docs/operations/troubleshooting.md of the error tree, a table of messages and a template.

The template has the sections, in the order of what a person sees. Each has a marker for the errors
that are seen there, which are grouped by stage.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

import keyferry
from keyferry.doctor.checks import DoctorStage
from keyferry.errors import (
    AuthorError,
    Code,
    InternalError,
    KeyferryError,
    PlatformError,
    ProviderError,
    Stage,
)
from keyferry.telemetry.help_links import Symptom
from scripts.troubleshooting_table import cell

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
DOCTOR_STAGES = tuple(map(str, DoctorStage))
"""What `keyferry doctor` checks, in this order."""
GROUPS = frozenset({"Provider", "StorePermission", "StorePolicy", "StoreUnavailable"})
"""Types without an entry: nothing raises them, only their subtypes."""
NEVER_SHOWN = frozenset({"NotMounted"})
"""Types without an entry: only code of the same package catches them."""
_MARKER = "<!-- errors -->"
_ACTORS: tuple[tuple[type[KeyferryError], str], ...] = (
    (AuthorError, "author of the SecretProviderClass"),
    (PlatformError, "platform engineer"),
    (ProviderError, "operator of the vault"),
    (InternalError, "developers of Keyferry"),
)
_KINDS = {
    Symptom.POD_DOES_NOT_START: "Mount",
    Symptom.SECRET_IS_MISSING: "Secret",
    Symptom.SYNC_IS_NOT_READY: "SecretSync",
    Symptom.DRIVER_IS_NOT_READY: "Driver",
    Symptom.CONTROLLER_DOES_NOT_WORK: "Controller",
    Symptom.ON_A_LAPTOP: "Command",
}
"""The first words of headings of errors, in the sections that describe some."""


@dataclass(frozen=True, slots=True)
class Row:
    """Messages with one cause and one fix."""

    messages: tuple[str, ...]
    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the page says of one type of error; see `errors.yaml`."""

    error: type[KeyferryError]
    sections: tuple[Symptom, ...]
    actor: str
    doctor: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The name of the type, as metrics of Secrets have it."""
        return short_name(self.error)

    @property
    def heading(self) -> str:
        """The heading above its messages."""
        return f"{_KINDS[self.sections[0]]} errors: {self.error.stage.value}"

    @property
    def link(self) -> str:
        """A link to its messages on the same page."""
        return f"[{self.name}](#{anchor(self.heading)})"


def short_name(error: type[KeyferryError]) -> str:
    """Return the name of a type without `Error`."""
    return error.__name__.removesuffix("Error")


def error_types() -> set[type[KeyferryError]]:
    """Return all types of errors below `KeyferryError`."""
    for module in pkgutil.walk_packages(keyferry.__path__, "keyferry."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return set(_subtypes(KeyferryError))


def _subtypes(error: type[KeyferryError]) -> Iterator[type[KeyferryError]]:
    for subtype in error.__subclasses__():
        if subtype.__module__.startswith("keyferry."):
            yield subtype
            yield from _subtypes(subtype)


def entries() -> tuple[Entry, ...]:
    """Return the entries of `errors.yaml`, in the order of the stages."""
    types = {short_name(each): each for each in error_types()}
    order = tuple(Stage)
    found = [
        Entry(
            error := types[each["error"]],
            tuple(map(Symptom, each["sections"])),
            each.get("actor") or _actor(error),
            tuple(each.get("doctor", ())),
            tuple(
                Row(_texts(row["message"]), row["cause"], row["fix"]) for row in each["messages"]
            ),
        )
        for each in yaml.safe_load((FOLDER / "errors.yaml").read_text())
    ]
    return tuple(sorted(found, key=lambda entry: order.index(entry.error.stage)))


def _actor(error: type[KeyferryError]) -> str:
    return next(actor for group, actor in _ACTORS if issubclass(error, group))


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def page() -> str:
    """Return the page."""
    known = entries()
    head, *parts = (FOLDER / "template.md").read_text().split("\n## ")
    sections = [_with_errors(part, known) for part in parts]
    return "\n## ".join([head, *sections])


def anchor(heading: str) -> str:
    """Return the anchor of a heading."""
    kept = "".join(char for char in heading.lower() if char.isalnum() or char in "- ")
    return kept.replace(" ", "-")


def _with_errors(section: str, known: tuple[Entry, ...]) -> str:
    if _MARKER not in section:
        return section
    symptom = Symptom(anchor(section.partition("\n")[0]))
    return section.replace(_MARKER, "\n".join(_errors_of(symptom, known)).rstrip())


def _errors_of(symptom: Symptom, known: tuple[Entry, ...]) -> Iterator[str]:
    """Yield an overview of the errors of a section by stage, and those that are described in it."""
    seen = [entry for entry in known if symptom in entry.sections]
    yield "| stage that the log names | errors |"
    yield "|---|---|"
    for stage in Stage:
        if links := [entry.link for entry in seen if entry.error.stage is stage]:
            yield f"| [`{stage.value}`](#stages) | {', '.join(links)} |"
    yield ""
    for stage in Stage:
        own = [each for each in seen if each.sections[0] is symptom and each.error.stage is stage]
        if own:
            yield f"### {own[0].heading}\n"
            yield from _messages(own)
            yield from _details(own)


def _messages(described: list[Entry]) -> Iterator[str]:
    yield "| message, error | cause | what to do |"
    yield "|---|---|---|"
    for entry in described:
        for row in entry.rows:
            quoted = ", ".join(f"`{message}`" for message in row.messages)
            yield f"| {cell(quoted)}<br>{entry.name} | {cell(row.cause)} | {cell(row.fix)} |"
    yield ""


def _details(described: list[Entry]) -> Iterator[str]:
    yield "| error | meaning | who must act | gRPC code | `error_type` | [doctor](#stages) |"
    yield "|---|---|---|---|---|---|"
    for entry in described:
        error = entry.error
        meaning = (error.__doc__ or "").strip().splitlines()[0]
        doctor = ", ".join(f"`{stage}`" for stage in entry.doctor) or "none"
        label = f"`{error.reason}`" if error.reason else "empty"
        yield (
            f"| {entry.name} | {cell(meaning)} | {entry.actor} | `{Code(error.code).name}` |"
            f" {label} | {doctor} |"
        )
    yield ""
