"""Makes files of values inside of objects, in parse jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.aio.jobs import ParseJob
from keyferry.content import SecretFile
from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
    ObjectUnusableError,
    combined,
    excerpt,
    prefixed,
)
from keyferry.formats.volume_paths import count_problem, path_conflict
from keyferry.records import replace
from keyferry.rendering.extraction import (
    ExtractedBatch,
    ExtractionBatch,
    ExtractionRequest,
    extract_batch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.aio.jobs import JobRunner
    from keyferry.content import FileLimit
    from keyferry.providers.api import MountResult
    from keyferry.rendering.entry_files import Extraction
    from keyferry.rendering.extraction import Extracted

EXTRACTION = ParseJob(
    "extraction",
    extract_batch,
    ExtractionBatch,
    ExtractedBatch,
    limit_problem="jmesPath and expandKeys cannot read the value safely",
    limit_remedy="Write simpler expressions, or store the value as several objects.",
)
"""Parses JSON and YAML that a vault delivers, for `jmesPath` and `expandKeys`."""
MAX_JOB_VALUES = 8
MAX_JOB_BYTES = 256 * 1024
"""Bytes of the values of one job, if it has several. The CPU time of a job is limited."""


async def with_extracted_files(
    result: MountResult,
    extractions: Sequence[Extraction],
    *,
    jobs: JobRunner,
    tenant: str,
    limit: FileLimit,
) -> MountResult:
    """Return `result` with the files that are extracted from values.

    Args:
        result: the files of whole objects.
        extractions: the values.
        jobs: runs parse jobs.
        tenant: the namespace of the pod.
        limit: counts the files.

    Raises:
        KeyferryError: the first failure; its message names the other objects that failed.
        ClassInvalidError: two files have one path, or there are too many.
    """
    if not extractions:
        return result
    found: list[Extracted] = []
    room = limit.room
    for batch in _batches(extractions):
        request = ExtractionBatch(tuple(map(_request, batch)), room)
        try:
            done = await jobs.run(EXTRACTION, request, tenant=tenant)
        except KeyferryError as error:
            names = ", ".join(dict.fromkeys(each.label for each in batch))
            raise prefixed(f"failed to parse {names}", error) from error.__cause__
        found += done.items
        room -= sum(each.size for each in done.items)
    pairs = list(zip(extractions, found, strict=True))
    failures: list[tuple[str, KeyferryError]] = [
        (each.label, ObjectUnusableError(f"{each.label}: {made.problem}", made.remedy))
        for each, made in pairs
        if made.problem
    ]
    if failures:
        raise combined(failures)
    added = [limit.add(file) for each, made in pairs for file in _files(each, made)]
    files = (*result.files, *added)
    _check_paths([file.path for file in files])
    return replace(result, files=files)


def _batches(extractions: Sequence[Extraction]) -> Iterator[Sequence[Extraction]]:
    batch: list[Extraction] = []
    for each in extractions:
        size = sum(len(other.value) for other in batch) + len(each.value)
        if batch and (len(batch) == MAX_JOB_VALUES or size > MAX_JOB_BYTES):
            yield batch
            batch = []
        batch.append(each)
    yield batch


def _request(extraction: Extraction) -> ExtractionRequest:
    options = extraction.options
    return ExtractionRequest(
        extraction.value,
        tuple(each.expression for each in options.jmes_paths),
        options.expand_keys,
        options.is_yaml,
    )


def _files(extraction: Extraction, made: Extracted) -> list[SecretFile]:
    whole = extraction.file
    files = [
        SecretFile(
            each.path + extraction.suffix,
            whole.mode if each.mode is None else each.mode,
            contents,
            each.owner or whole.owner,
        )
        for each, contents in zip(extraction.options.jmes_paths, made.values, strict=True)
    ]
    return files + [
        SecretFile(f"{whole.path}/{key}", whole.mode, contents, whole.owner)
        for key, contents in made.keys
    ]


def _check_paths(paths: Sequence[str]) -> None:
    if excess := count_problem(paths):
        raise ClassInvalidError(
            f"objects, with jmesPath and expandKeys, {excess}", "Split the objects into volumes."
        )
    if clash := path_conflict(paths):
        first, second = map(excerpt, clash)
        problem = (
            f"two files have the path '{first}'"
            if first == second
            else f"'{first}' would be a file and the folder of '{second}'"
        )
        raise ClassInvalidError(
            f"{problem}; jmesPath or expandKeys makes one of them",
            "Set another objectAlias.",
        )
