"""keyferry.providers.sources: the vaults of one mount are opened concurrently."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from keyferry.content import MissingObject
from keyferry.errors import IdentityError, KeyferryError, MountLimitError
from keyferry.providers.sources.numbering import naming_object, number_sources
from keyferry.providers.sources.opening import open_all
from keyferry.providers.sources.selected import AbsentObjects, Expansion
from keyferry.rendering.selection import Selection


async def test_sources_are_opened_concurrently() -> None:
    """Each waits for all others; the results have the order of the sources."""
    barrier = asyncio.Barrier(3)

    async def open_source(index: int, source: str) -> str:
        await barrier.wait()
        return f"{source}{index}"

    async with asyncio.timeout(60):
        assert ("a0", "b1", "c2") == await open_all("abc", open_source)


async def test_source_that_fails_stops_no_other() -> None:
    """Its error is its result."""
    opened: list[str] = []

    async def open_source(_: int, source: str) -> str:
        if source == "a":
            raise IdentityError("refused")
        await asyncio.sleep(0)
        opened.append(source)
        return source

    refused, other = await open_all("ab", open_source)
    assert isinstance(refused, IdentityError)
    assert (["b"], "b") == (opened, other)


@pytest.mark.parametrize(
    ("sources", "error"), [("a", IdentityError("refused")), ("ab", MountLimitError("too large"))]
)
async def test_error_of_the_only_source_or_of_the_limits_fails_the_mount(
    sources: str, error: KeyferryError
) -> None:
    async def open_source(_: int, __: str) -> str:
        raise error

    with pytest.raises(type(error)) as caught:
        await open_all(sources, open_source)
    assert caught.value is error


def test_sources_are_numbered_in_their_order() -> None:
    assert (("b", "a"), (0, 1, 0)) == number_sources("bab")


def test_error_about_a_vault_names_the_object_once() -> None:
    """A shared error is not changed."""
    outage = KeyferryError("fabrikam could not be reached", "Check it.")
    named = naming_object(outage, "secret a", shown="secret a of vault fabrikam")
    assert "secret a of vault fabrikam: fabrikam could not be reached" == named.problem
    assert ("fabrikam could not be reached", "Check it.") == (outage.problem, named.remedy)
    assert named is naming_object(named, "secret a", shown="secret a of vault fabrikam")


EVERYTHING = Selection()


@dataclass(frozen=True)
class Selected:
    """An object that `find` selected, with one file."""

    name: str
    selection: Selection | None = EVERYTHING

    @property
    def file_paths(self) -> tuple[str, ...]:
        return (self.name,)


A, B, NAMED = Selected("a"), Selected("b"), Selected("named", None)
UNSELECTED = MissingObject("c", ("c",), "find selects nothing")


@pytest.mark.parametrize(
    ("objects", "disappeared", "left"),
    [
        ((A, B), {A}, (B,)),
        ((A, NAMED), {A, NAMED}, (NAMED,)),
        ((A, B), {A, B}, (A, B)),
    ],
)
def test_objects_that_disappeared_are_left_out(
    objects: tuple[Selected, ...], disappeared: set[Selected], left: tuple[Selected, ...]
) -> None:
    """But objects that entries name stay, and so do all if none is left, for their errors."""
    assert left == Expansion(objects).without(disappeared.__contains__).objects


def test_all_objects_may_disappear_if_others_are_missing() -> None:
    """What is missing already says why there is no file."""
    assert () == Expansion((A,), missing=(UNSELECTED,)).without({A}.__contains__).objects


@pytest.mark.parametrize("paths", [("a",), ("a/b",)])
def test_file_of_a_selected_object_replaces_that_of_an_absent_one(paths: tuple[str, ...]) -> None:
    """Both cannot be in the volume."""
    absent = MissingObject("old", paths, "find does not select it any more")
    expansion = AbsentObjects().applied_to(Expansion((A,)), [absent], "/target")
    assert ((), frozenset({"old"})) == (expansion.missing, expansion.absent)
    expansion = AbsentObjects().applied_to(Expansion((B,)), [absent], "/target")
    assert ((absent,), frozenset({"old"})) == (expansion.missing, expansion.absent)
