"""The namespace of one scenario, with the kubectl commands and checks of a user."""

from __future__ import annotations

import asyncio
import base64
import shlex
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from tests.e2e.cluster.installation import REUSE_SECONDS, Installation
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import VAULT
from tests.e2e.cluster.waiting import PATIENCE_SECONDS, eventually

_LOOK_SECONDS = 1.0
"""The polling interval; each poll starts a process, and scenarios run concurrently."""

_POD_STATUS = "secretproviderclasspodstatuses"


class Namespace:
    """A namespace on a cluster with Keyferry installed.

    Attributes:
        name: of the namespace.
        installed: the cluster, and the vault.
    """

    def __init__(self, installed: Installation, name: str) -> None:
        self.installed = installed
        self.name = name

    async def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in this namespace.

        Raises:
            AssertionError: the call failed; the message contains its output.
        """
        return await self.installed.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin)

    async def get(self, *arguments: str) -> Document:
        """Return one object, or a list object with `items`."""
        return await self.installed.kubectl.get(f"--namespace={self.name}", *arguments)

    async def apply(self, *documents: Document) -> None:
        """Apply objects."""
        await self.installed.kubectl.apply(*documents, namespace=self.name)

    async def delete(self, *what: str) -> None:
        """Delete objects, and wait until they are removed."""
        await self.kubectl("delete", *what, f"--timeout={PATIENCE_SECONDS:.0f}s")

    async def wait(self, condition: str, *what: str) -> None:
        """Wait until a condition of `kubectl wait --for` holds for these objects."""
        await self.kubectl(
            "wait", f"--for={condition}", *what, f"--timeout={PATIENCE_SECONDS:.0f}s"
        )

    async def new_version(self, name: str, value: str) -> str:
        """Store a new version of a secret and wait until the cache has expired; return its id.

        Every pod that starts afterwards gets the new version.
        """
        version = self.installed.vault.set_secret(VAULT, name, value)
        await asyncio.sleep(REUSE_SECONDS)
        return version

    # --- pods --------------------------------------------------------------------------------

    async def ready(self, *pods: str) -> None:
        """Wait until these pods exist and are ready."""
        names = [f"pod/{name}" for name in pods]
        await self.wait("create", *names)
        await self.wait("condition=Ready", *names)

    async def run(self, pod: str, *command: str) -> str:
        """Return the output of a command in a pod; `pod` may also be `deployment/NAME`."""
        return await self.kubectl("exec", pod, "--", *command)

    async def read(self, pod: str, path: str) -> str:
        """Return the content of a file in a pod."""
        return await self.run(pod, "cat", path)

    async def reads(self, pod: str, path: str, content: str) -> None:
        """Wait until a file in a pod has this content."""
        look = f"""
            for i in $(seq {PATIENCE_SECONDS * 2:.0f}); do
              [ "$(cat {path})" = {shlex.quote(content)} ] && exit; sleep 0.5
            done; echo "{path} still is $(cat {path})" >&2; exit 1"""
        await self.run(pod, "sh", "-c", look)

    async def pods(self, app: str) -> list[Document]:
        """Return the pods with this label `app` that are not terminating."""
        found = await self.get("pods", f"--selector=app={app}")
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    async def volumes_removed(self, uid: str, *, folder_too: bool = False) -> None:
        """Wait until no volume of the pod with this uid is left on the node.

        Args:
            uid: of the pod.
            folder_too: also wait for the removal of the pod's folder, after a deletion.
        """
        folder = self.installed.cluster.kubelet_root / "pods" / uid

        async def removed() -> bool | None:
            if folder_too and folder.exists():
                return None
            return None if list(folder.glob("volumes/kubernetes.io~csi/*")) else True

        await eventually(removed, f"the volumes of {folder} to be removed")

    async def says(self, reason: str, text: str) -> str:
        """Wait for an event with this reason and this text in the message; return the message."""

        async def reported() -> str | None:
            events = (await self.get("events", f"--field-selector=reason={reason}"))["items"]
            messages = [str(each["message"]) for each in events]
            assert any(text in message for message in messages), f"{reason}: {messages}"
            return next(message for message in messages if text in message)

        return await eventually(reported, f"an event {reason}: {text}", pause=_LOOK_SECONDS)

    async def versions(self, pod: str, class_name: str) -> Mapping[str, str]:
        """Wait for the pod status of a volume of this pod; return the version of each object."""
        name = f"{pod}-{self.name}-{class_name}"

        async def written() -> Mapping[str, str] | None:
            uid = (await self.get("pod", pod))["metadata"]["uid"]
            status = await self.get(_POD_STATUS, name)
            owners = [each["uid"] for each in status["metadata"]["ownerReferences"]]
            assert [uid] == owners, f"{name} belongs to {owners}, not to {uid}"
            return {each["id"]: each["version"] for each in status["status"]["objects"]}

        return await eventually(written, f"the pod status {name}", pause=_LOOK_SECONDS)

    # --- Secrets -----------------------------------------------------------------------------

    async def secret_data(self, name: str) -> dict[str, str]:
        """Return the decoded data of a Secret."""
        return decoded(await self.get("secret", name))

    async def secret_has(self, name: str, data: Mapping[str, str]) -> None:
        """Wait until a Secret has exactly this data."""

        async def has() -> bool | None:
            actual = await self.secret_data(name)
            assert dict(data) == actual, f"it has {actual}"
            return True

        await eventually(has, f"secret {name} to be {dict(data)}", pause=_LOOK_SECONDS)

    async def owners(self, secret: str) -> list[tuple[str, str]]:
        """Return kind and name of each owner of a Secret, sorted."""
        metadata = (await self.get("secret", secret))["metadata"]
        return sorted((each["kind"], each["name"]) for each in metadata.get("ownerReferences", ()))

    async def owner_count(self, secret: str, count: int) -> None:
        """Wait until a Secret has exactly `count` owners."""

        async def counted() -> bool | None:
            owners = await self.owners(secret)
            assert count == len(owners), f"they are {owners}"
            return True

        await eventually(counted, f"secret {secret} to have {count} owners", pause=_LOOK_SECONDS)

    async def secret_removed(self, name: str) -> None:
        """Wait until all pods are deleted, then until the Secret is."""
        await self.wait("delete", "pods", "--all")

        async def removed() -> bool | None:
            names = (await self.kubectl("get", "secrets", "--output=name")).split()
            return None if f"secret/{name}" in names else True

        await eventually(removed, f"secret {name} to be removed", pause=_LOOK_SECONDS)

    async def describe(self) -> str:
        """Describe objects and events, for the message of a failed scenario."""
        outputs = []
        for arguments in (
            ("get", "pods,secrets,secretproviderclasses,secretproviderclasspodstatuses"),
            (
                "events",
                "--output=custom-columns=REASON:.reason,FOR:.involvedObject.name,M:.message",
            ),
        ):
            with suppress(AssertionError):
                outputs.append(await self.kubectl(*arguments))
        return "\n".join([f"namespace {self.name}:", *outputs])


def but_api_access(messages: Iterable[str]) -> list[str]:
    """Leave out what kubelet says if it waits too long for the CA of the Kubernetes API itself."""
    return [each for each in messages if "kube-api-access" not in each]


def decoded(secret: Document) -> dict[str, str]:
    """Return the data of a Secret as text."""
    return {
        key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()
    }


@asynccontextmanager
async def new_namespace(installed: Installation, name: str) -> AsyncIterator[Namespace]:
    """Create a namespace for pods; start its deletion when the block exits."""
    await installed.make_namespace(name)
    namespace = Namespace(installed, name)
    try:
        yield namespace
    except BaseException as error:
        error.add_note(await namespace.describe())
        raise
    finally:
        await installed.kubectl("delete", "namespace", name, "--wait=false")
