"""keyferry.providers.sources: the vaults of one mount are opened concurrently."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.errors import IdentityError, KeyferryError, MountLimitError
from keyferry.providers.sources.numbering import naming_object, number_sources
from keyferry.providers.sources.opening import open_all


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
