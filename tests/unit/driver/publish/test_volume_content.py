"""What a volume keeps of objects that disappeared from the vault."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from keyferry.content import FileOwner, MissingObject, ObjectVersion, SecretFile
from keyferry.driver.publish.volume_content import VolumeContent, with_owner
from keyferry.driver.volumes.operations import VolumeOperations
from keyferry.providers.api import MountResult
from keyferry.rendering.class_options import (
    NO_VOLUME_OPTIONS,
    EnvFileOptions,
    TemplateOptions,
    VolumeOptions,
)

TARGET = Path("/volume")
OTHER = SecretFile("b", 0o644, b"new")
LAST = SecretFile("a", 0o400, b"last", FileOwner(7))
MISSING = ObjectVersion("secret/a", "missing")


class Present:
    """The files of a volume."""

    def __init__(self, *files: SecretFile) -> None:
        self._files = files
        self.reads = 0

    async def read(self, _: Path) -> tuple[SecretFile, ...]:
        self.reads += 1
        return self._files


async def complete(
    present: Present,
    *,
    previous: str | None = "",
    files: tuple[SecretFile, ...] = (OTHER,),
    paths: tuple[str, ...] = ("a",),
    keeps: bool = True,
    options: VolumeOptions = NO_VOLUME_OPTIONS,
) -> MountResult:
    """Complete a result that lacks `secret/a`; `previous` is its version in the volume, if any."""
    result = MountResult(
        (MISSING, ObjectVersion("secret/b", "2")),
        files,
        missing=(MissingObject("secret/a", paths, "it is disabled", keeps),),
    )
    known = () if not previous else (ObjectVersion("secret/a", previous),)
    content = VolumeContent(cast("VolumeOperations", present))
    return await content.complete(
        result, options, target=TARGET, previous=None if previous is None else known
    )


async def test_last_content_and_version_are_kept() -> None:
    """With mode and owner."""
    done = await complete(Present(LAST, OTHER), previous="1")
    assert {LAST, OTHER} == set(done.files)
    assert ObjectVersion("secret/a", "1") in done.versions
    assert ["it is disabled; the volume keeps its last content"] == [
        m.explanation for m in done.missing
    ]


async def test_files_below_a_path_are_kept() -> None:
    """Of expandKeys and histories, and not those whose name only begins so."""
    below, beside = SecretFile("a/x/y", 0o644, b"1"), SecretFile("ab", 0o644, b"2")
    done = await complete(Present(below, beside), previous="1")
    assert {below, OTHER} == set(done.files)


async def test_files_of_templates_are_no_files_of_an_object() -> None:
    """They are made again from what is kept, even if they are in its folder."""
    below, made = SecretFile("a/x", 0o644, b"1"), SecretFile("a/conf", 0o644, b"made")
    variables = SecretFile("a/.env", 0o644, b"made")
    options = VolumeOptions(
        env_file=EnvFileOptions("a/.env"), templates=(TemplateOptions("a/conf", "{{ a/x }}"),)
    )
    done = await complete(Present(below, made, variables), previous="1", options=options)
    assert {below, OTHER} == set(done.files)


async def test_versions_of_a_history_are_kept() -> None:
    """All that the volume has; a vault without the object lists none."""
    content = VolumeContent(cast("VolumeOperations", Present(SecretFile("a/1", 0o644, b"old"))))
    older = ("secret/a/1", "secret/a/2")
    missing = MissingObject("secret/a/0", ("a",), "x", further_ids=older)
    result = MountResult((ObjectVersion("secret/a/0", "missing"),), missing=(missing,))
    previous = (ObjectVersion("secret/a/0", "v2"), ObjectVersion("secret/a/1", "v1"))
    done = await content.complete(result, NO_VOLUME_OPTIONS, target=TARGET, previous=previous)
    assert previous == done.versions


async def test_a_new_volume_is_not_read() -> None:
    """There is nothing to keep."""
    present = Present(LAST)
    done = await complete(present, previous=None)
    assert (OTHER,) == done.files
    assert 0 == present.reads


async def test_an_object_that_was_missing_before_has_no_last_content() -> None:
    """Its file, if any, is a default, which may have changed."""
    default = SecretFile("a", 0o644, b"default")
    done = await complete(Present(LAST), previous="missing", files=(default, OTHER))
    assert {default, OTHER} == set(done.files)
    assert MISSING in done.versions
    assert ["it is disabled"] == [missing.explanation for missing in done.missing]


async def test_the_last_content_precedes_the_default() -> None:
    """A pod that runs keeps what it has."""
    default = SecretFile("a", 0o644, b"default")
    done = await complete(Present(LAST), previous="1", files=(default, OTHER))
    assert {LAST, OTHER} == set(done.files)


async def test_files_of_another_object_are_not_kept() -> None:
    """The SecretProviderClass was edited: another object had the path."""
    content = VolumeContent(cast("VolumeOperations", Present(LAST)))
    result = MountResult((MISSING,), missing=(MissingObject("secret/a", ("a",), "x"),))
    previous = (ObjectVersion("secret/old", "1"),)
    done = await content.complete(result, NO_VOLUME_OPTIONS, target=TARGET, previous=previous)
    assert () == done.files


async def test_content_is_removed_if_the_object_says_so() -> None:
    """`onMissing: remove`."""
    done = await complete(Present(LAST), previous="1", keeps=False)
    assert (OTHER,) == done.files
    assert MISSING in done.versions


async def test_without_known_versions_files_are_kept() -> None:
    """A driver that was just started may not know them."""
    done = await complete(Present(LAST))
    assert {LAST, OTHER} == set(done.files)


def test_owner_of_the_volume() -> None:
    """Only for files without one."""
    owner = FileOwner(1, 2)
    assert (LAST, SecretFile("b", 0o644, b"new", owner)) == with_owner((LAST, OTHER), owner)
    assert (LAST, OTHER) == with_owner((LAST, OTHER), None)
