"""Checks SecretProviderClasses, one by one and against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, excerpt
from keyferry.formats.unknown_fields import UnknownField
from keyferry.kubernetes.class_check import check_class
from keyferry.lint.class_content import content_of
from keyferry.lint.field_places import field_place
from keyferry.lint.finding import finding
from keyferry.lint.templates import templates_problem
from keyferry.lint.upstream import upstream_differences
from keyferry.lint.variables import variables_problem
from keyferry.providers.registry import (
    class_problem,
    provider_names,
    suggest_provider,
    unknown_fields,
)
from keyferry.rendering.class_options import parse_volume_options
from keyferry.secrets.builder import ALL_FILES, check_single_entry, choose_files
from keyferry.secrets.secret_data import check_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.lint.finding import Finding
    from keyferry.lint.manifests import LintedClass

_SWITCHES = ("true", "t", "1")


def check_classes(classes: Sequence[LintedClass]) -> Iterator[Finding]:
    """Yield what is wrong with SecretProviderClasses, in their order."""
    yield from _duplicates(classes)
    for linted in classes:
        yield from _check(linted)
    yield from _shared_secrets(classes)


def _check(linted: LintedClass) -> Iterator[Finding]:
    manifest, spc = linted.manifest, linted.spc
    problem: AuthorError | None
    try:
        check_class(spc)
        parse_volume_options(spc.parameters)
        problem = class_problem(spc) or variables_problem(spc) or templates_problem(spc)
    except AuthorError as error:
        problem = error
    if problem is not None:
        about = problem.problem.removeprefix(f"{manifest.subject} ").removeprefix(": ")
        place = linted.place_of(problem.problem)
        yield finding("class", place, manifest.subject, about, problem.remedy)
    yield from _provider(linted)
    for field in unknown_fields(spc):
        yield finding(
            "unknown-field",
            field_place(manifest, field),
            manifest.subject,
            str(field),
        )
    if problem is None:
        yield from _secret_objects(linted)
    yield from _identity(linted)
    for name, index, effect in upstream_differences(spc.provider, spc.parameters):
        path = "spec.parameters" if index is None else f"spec.parameters.objects[{index}]"
        place = field_place(manifest, UnknownField(path, name))
        problem_text = f"{path}.{name}: the upstream driver {effect}"
        yield finding("upstream", place, manifest.subject, problem_text)


def _provider(linted: LintedClass) -> Iterator[Finding]:
    """Yield the name of a provider that is probably a misspelled one of a built-in provider."""
    name, manifest = linted.spc.provider, linted.manifest
    meant = suggest_provider(name, provider_names())
    if name not in provider_names() and meant:
        yield finding(
            "provider",
            manifest.place("spec", "provider"),
            manifest.subject,
            f"provider {excerpt(name)!r} is not built in",
            f"Did you mean {meant!r}? Otherwise install this provider on the nodes.",
        )


def _secret_objects(linted: LintedClass) -> Iterator[Finding]:
    """Yield the Secrets that could not be made from the files that a mount may produce."""
    spc = linted.spc
    names = {data.object_name for entry in spc.secret_objects for data in entry.data}
    content = content_of(spc, names)
    if content is None:
        return
    for index, entry in enumerate(spc.secret_objects):
        try:
            check_single_entry(spc.secret_objects, entry.name)
            choose_files(entry, content.files, content.named_files)
            keys = {data.key for data in entry.data}
            if ALL_FILES not in keys:
                check_keys(entry.type, keys)
        except AuthorError as error:
            place = linted.manifest.place("spec", "secretObjects", index)
            subject = linted.manifest.subject
            yield finding("secret-object", place, subject, error.problem, error.remedy)


def _identity(linted: LintedClass) -> Iterator[Finding]:
    manifest = linted.manifest
    switch = linted.spc.parameters.get("usePodIdentity", "").strip().lower()
    if linted.spc.provider == "azure" and switch in _SWITCHES:
        yield finding(
            "deprecated-identity",
            manifest.place("spec", "parameters", "usePodIdentity"),
            manifest.subject,
            "usePodIdentity: AAD Pod Identity is archived and receives no fixes",
            "Use workload identity: set clientID, and label the pod azure.workload.identity/use.",
        )


def _duplicates(classes: Sequence[LintedClass]) -> Iterator[Finding]:
    seen: dict[str, LintedClass] = {}
    for linted in classes:
        first = seen.setdefault(linted.manifest.subject, linted)
        if first is not linted:
            yield finding(
                "duplicate-class",
                linted.manifest.place(),
                linted.manifest.subject,
                f"it is also defined in {first.manifest.place()}",
                "Keep one of them: the last one that is applied wins.",
            )


def _shared_secrets(classes: Sequence[LintedClass]) -> Iterator[Finding]:
    owners: dict[tuple[str, str], LintedClass] = {}
    for linted in classes:
        for index, entry in enumerate(linted.spc.secret_objects):
            first = owners.setdefault((linted.spc.namespace, entry.name), linted)
            if first.manifest.subject != linted.manifest.subject:
                yield finding(
                    "shared-secret",
                    linted.manifest.place("spec", "secretObjects", index),
                    linted.manifest.subject,
                    f"secret {entry.name} is also made by {first.manifest.subject}"
                    f" in {first.manifest.place()}",
                    "Give each SecretProviderClass a Secret of its own.",
                )
