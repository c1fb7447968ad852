"""keyferry.telemetry.help_links: every event about a problem leads to its symptom."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.driver.status import events
from keyferry.kubernetes.object_codec import event_manifest
from keyferry.kubernetes.objects import MAX_MESSAGE, Event, EventType, PodRef
from keyferry.sync_controller.rules import events as sync_events
from keyferry.telemetry.help_links import (
    DEFAULT_HELP_URL,
    NO_LINKS,
    SYMPTOM_OF_EVENT,
    HelpLinks,
    Symptom,
)
from scripts.image.build import labels
from tests.fakes.clock import START

LINKS = HelpLinks("https://example.com/help")
LINK = "See https://example.com/help#the-pod-does-not-start"
POD = PodRef("shop", "web-0", "uid")


def linked(message: str, reason: str = "FailedToMountObjects", links: HelpLinks = LINKS) -> str:
    return links.linked(message, reason=reason, limit=MAX_MESSAGE)


def warnings(module: ModuleType) -> set[str]:
    """The reasons of the functions of a module that can return a warning."""
    return {
        getattr(module, node.id)
        for function in ast.parse(inspect.getsource(module)).body
        if isinstance(function, ast.FunctionDef) and "WARNING" in ast.unparse(function)
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(getattr(module, node.id, None), str)
        if node.id.isupper() and node.id != "SYNC_KIND"
    }


def test_every_warning_has_a_symptom() -> None:
    """A new event of a problem needs a section on the page of troubleshooting."""
    found = warnings(events) | warnings(sync_events)
    assert len(found) > 12
    assert found == set(SYMPTOM_OF_EVENT)


def test_anchors_never_change() -> None:
    """Events in clusters, and pages of other people, link to them. Add to the list only."""
    assert [
        "the-pod-does-not-start",
        "the-secret-is-missing",
        "a-file-is-missing",
        "the-content-is-old",
        "an-environment-variable-is-old",
        "an-object-expires",
        "a-field-has-no-effect",
        "a-secretsync-is-not-ready",
        "the-pod-status-is-missing",
        "a-pod-stays-in-terminating",
        "the-drivers-pod-is-not-ready",
        "the-secretsync-controller-does-not-work",
        "a-command-fails-on-a-laptop",
    ] == [symptom.value for symptom in Symptom]


def test_the_default_page_is_in_this_repository() -> None:
    source = labels()["org.opencontainers.image.source"]
    assert f"{source}/blob/v{{version}}/docs/operations/troubleshooting.md" == DEFAULT_HELP_URL


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("failed. Set it.", f"failed. Set it. {LINK}"),
        ("failed", f"failed. {LINK}"),
        ("which one?", f"which one? {LINK}"),
    ],
)
def test_link_is_a_sentence_of_its_own(message: str, expected: str) -> None:
    assert expected == linked(message)


def test_without_a_page_messages_are_unchanged() -> None:
    assert "failed" == linked("failed", links=NO_LINKS)
    assert "failed" == linked("failed", reason="OfAnotherProgram")


@given(st.text(max_size=2 * MAX_MESSAGE))
def test_long_message_is_cut_and_keeps_its_link(message: str) -> None:
    """Kubernetes rejects events with longer messages."""
    text = linked(message)
    assert len(text) <= MAX_MESSAGE
    assert text.endswith(f" {LINK}")
    kept = text.removesuffix(f" {LINK}").removesuffix(".").removesuffix("..")
    assert message.startswith(kept)


@pytest.mark.parametrize("kind", EventType)
def test_only_warnings_have_a_link(kind: EventType) -> None:
    """The reason SecretAdopted is a problem only if values were replaced."""
    event = Event(POD, kind, "SecretAdopted", "adopted")
    manifest = event_manifest(event, "e", now=START, previous=None, links=LINKS)
    assert (kind is EventType.WARNING) == ("See https://" in str(manifest["message"]))
