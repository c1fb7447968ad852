"""One namespace with SecretSyncs: what a scenario does in it, and what it waits for."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import yaml

from tests.e2e.cluster.api_recorder import Seen
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.sync_process import SyncWorld
from tests.fakes.devvault import DevVault

T = TypeVar("T")

LABEL = "secrets-store.sync.x-k8s.io"
API = "secret-sync.x-k8s.io/v1alpha1"


def secret_sync(
    name: str,
    data: Mapping[str, str],
    *,
    spc: str = "",
    account: str = "default",
    kind: str = "Opaque",
    annotations: Mapping[str, str] | None = None,
    secret: Mapping[str, object] | None = None,
    **spec: object,
) -> Document:
    """Return a SecretSync.

    Args:
        name: of the SecretSync and its Secret.
        data: maps each key of the Secret to its `sourcePath`.
        spc: name of the SecretProviderClass; "" for that of the SecretSync.
        account: name of the service account.
        kind: type of the Secret.
        annotations: of the SecretSync.
        secret: further fields of `secretObject`.
        spec: further fields of the spec.
    """
    entries = [{"sourcePath": path, "targetKey": key} for key, path in data.items()]
    return {
        "apiVersion": API,
        "kind": "SecretSync",
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {
            "secretProviderClassName": spc or name,
            "serviceAccountName": account,
            "secretObject": {"type": kind, "data": entries, **(secret or {})},
            **spec,
        },
    }


def changed_class(document: Document, **parameters: str) -> Document:
    """Return a SecretProviderClass with some parameters replaced."""
    spec = document["spec"]
    return {**document, "spec": {**spec, "parameters": {**spec["parameters"], **parameters}}}


def azure_objects(*entries: Mapping[str, object]) -> str:
    """Return the parameter `objects` of the provider azure."""
    return yaml.safe_dump({"array": [yaml.safe_dump(dict(entry)) for entry in entries]})


@dataclass
class SyncNamespace:
    """A namespace.

    Attributes:
        world: the API and the vault.
        name: of the namespace.
        figures: measured durations.
    """

    world: SyncWorld
    name: str
    figures: list[str] = field(default_factory=list)

    @property
    def vault(self) -> DevVault:
        """The development vault."""
        return self.world.vault

    # --- changes ---------------------------------------------------------------------------------

    async def apply(self, *documents: Document) -> None:
        """Apply objects."""
        applied = await self.world.client.apply(*documents, namespace=self.name)
        await self.world.recorder.saw(*applied)

    async def annotate(self, kind: str, name: str, **annotations: str) -> None:
        """Set annotations `keyferry.dev/KEY` of an object; `_` in KEY means `-`."""
        full = {f"keyferry.dev/{key.replace('_', '-')}": text for key, text in annotations.items()}
        await self._written(self.world.client.annotate(kind, self.name, name, full))

    async def force(self, name: str, value: str) -> None:
        """Set `spec.forceSynchronization`."""
        await self.merge("SecretSync", name, {"spec": {"forceSynchronization": value}})

    async def edit(self, secret: str, **data: str) -> None:
        """Set keys of a Secret, as anybody may do."""
        await self.merge("Secret", secret, {"stringData": data})

    async def merge(self, kind: str, name: str, patch: Document) -> Document:
        """Change an object with a JSON merge patch."""
        return await self._written(self.world.client.merge(kind, self.name, name, patch))

    async def _written(self, request: Awaitable[Document]) -> Document:
        """Send a request, and wait until the recorder has seen its effect."""
        written = await request
        await self.world.recorder.saw(written)
        return written

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        recorder = self.world.recorder
        after = len(recorder.versions(kind, self.name, name))
        await self.world.client.delete(kind, self.name, name)
        await recorder.saw_deletion(kind, self.name, name, after=after)

    # --- SecretSyncs -----------------------------------------------------------------------------

    async def ready(self, name: str, *, reason: str = "SecretUpToDate") -> Document:
        """Wait until the current generation of a SecretSync is ready; return the SecretSync."""

        def look() -> Document | None:
            sync, ready = self._condition(name)
            assert ("True", reason) == (ready["status"], ready["reason"]), ready
            return sync

        return await self._until(look, f"SecretSync {name} to be ready")

    async def failed(self, name: str, *texts: str, reason: str) -> Document:
        """Wait until the current generation of a SecretSync has failed.

        Args:
            name: of the SecretSync.
            texts: parts of the message.
            reason: of the condition Ready.

        Returns:
            The SecretSync.
        """

        def look() -> Document | None:
            sync, ready = self._condition(name)
            assert ("False", reason) == (ready["status"], ready["reason"]), ready
            for text in texts:
                assert text in ready["message"], ready
            return sync

        return await self._until(look, f"SecretSync {name} to fail: {', '.join(texts)}")

    def _condition(self, name: str) -> tuple[Document, Document]:
        sync = self.world.recorder.latest("SecretSync", self.name, name)
        assert sync is not None, "it does not exist"
        ready = conditions(sync)["Ready"]
        generation = sync["metadata"]["generation"]
        assert generation == ready.get("observedGeneration"), f"generation {generation}: {ready}"
        return sync, ready

    async def says(self, reason: str, *texts: str, about: str = "") -> str:
        """Wait for an event with these texts in its message; return the message.

        Args:
            reason: of the event.
            texts: parts of the message.
            about: name of the object.
        """

        def look() -> str | None:
            events = self.world.recorder.existing("Event", self.name)
            messages = [
                str(event["message"])
                for event in events
                if event["reason"] == reason and about in {"", event["involvedObject"]["name"]}
            ]
            found = [each for each in messages if all(text in each for text in texts)]
            assert found, f"{reason}: {messages}"
            return found[0]

        return await self._until(look, f"an event {reason} about {about}: {', '.join(texts)}")

    # --- Secrets ---------------------------------------------------------------------------------

    async def secret(self, name: str) -> Document:
        """Wait until the watch of this test has reported a Secret; return it."""
        return await self._until(
            lambda: self.world.recorder.latest("Secret", self.name, name), f"secret {name}"
        )

    async def secret_has(self, name: str, data: Mapping[str, str]) -> Document:
        """Wait until a Secret has exactly this data; return the Secret."""

        def look() -> Document | None:
            secret = self.world.recorder.latest("Secret", self.name, name)
            assert secret is not None, "it does not exist"
            assert dict(data) == text_data(secret), f"keys {sorted(text_data(secret))}"
            return secret

        return await self._until(look, f"secret {name} to have the keys {sorted(data)}")

    async def no_secret(self, name: str) -> None:
        """Wait until a Secret does not exist."""

        def look() -> bool | None:
            return self.world.recorder.latest("Secret", self.name, name) is None or None

        await self._until(look, f"secret {name} to be deleted")

    def versions(self, kind: str, name: str) -> list[Seen]:
        """Return all versions of an object."""
        return self.world.recorder.versions(kind, self.name, name)

    async def measure(self, what: str, work: Awaitable[T]) -> T:
        """Report how long something takes."""
        start = time.monotonic()
        result = await work
        self.figures.append(f"{what}: {time.monotonic() - start:.2f} s")
        return result

    async def _until(self, look: Callable[[], T | None], what: str) -> T:
        return await self.world.recorder.until(look, f"{what} in {self.name}")

    def describe(self) -> str:
        """Describe objects and events, for the message of a failed scenario."""
        recorder = self.world.recorder
        syncs = recorder.existing("SecretSync", self.name)
        secrets = recorder.existing("Secret", self.name)
        events = recorder.existing("Event", self.name)
        lines = [
            f"namespace {self.name}:",
            *(f"SecretSync {each['metadata']['name']}: {each.get('status')}" for each in syncs),
            *(f"Secret {each['metadata']['name']}: {sorted(text_data(each))}" for each in secrets),
            *(f"Event {each['reason']}: {each['message']}" for each in events),
        ]
        return "\n".join(lines)


def conditions(sync: Document) -> dict[str, Document]:
    """Return the conditions of a SecretSync by type."""
    return {each["type"]: each for each in sync["status"]["conditions"]}


def text_data(secret: Document) -> dict[str, str]:
    """Return the data of a Secret as text."""
    return {
        key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()
    }


@asynccontextmanager
async def open_sync_namespace(
    world: SyncWorld, figures: list[str], name: str
) -> AsyncIterator[SyncNamespace]:
    """Use a namespace of a controller for a scenario.

    Args:
        world: the API and the vault.
        figures: takes the measured durations.
        name: of the namespace, which exists.
    """
    namespace = SyncNamespace(world, name)
    try:
        yield namespace
    except BaseException as error:
        error.add_note(namespace.describe())
        raise
    finally:
        figures.extend(f"{name}: {line}" for line in namespace.figures)
