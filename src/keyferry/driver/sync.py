"""The hub of one volume's Secrets: each entry of `secretObjects` is built and applied to the store.

Source: driver.md, sections 4.2 and 4.9. A Secret that cannot be made keeps no other from being
made, and never fails the mount: it becomes a warning on the pod, and a value for whoever asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.driver.events import secret_failed
from keyferry.driver.k8s_secret import build_secret
from keyferry.errors import KeyferryError
from keyferry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.contract import NamedFile, SecretFile
    from keyferry.store.interface import (
        ClassObject,
        ObjectStore,
        OwnerReference,
        PodRef,
        SecretObject,
    )

_log = get_logger("sync")


@dataclass(frozen=True, slots=True)
class SecretProblem:
    """One Secret that could not be made or kept.

    Attributes:
        secret_name: as the class gives it; may be empty, which is then the problem.
        message: the text of the event: the class, the Secret, the cause and the remedy.
        error: the cause.
    """

    secret_name: str
    message: str
    error: KeyferryError


class SecretSync:
    """Mirrors files of volumes into Kubernetes Secrets.

    Args:
        store: where the Secrets and the events go.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def sync(
        self,
        cls: ClassObject,
        pod: PodRef,
        *,
        files: Sequence[SecretFile],
        named: Sequence[NamedFile],
        owner: OwnerReference | None,
    ) -> tuple[SecretProblem, ...]:
        """Make every Secret of `cls` equal to the files of the volume.

        Args:
            cls: the class, checked.
            pod: whose volume it is; the warnings go to it.
            files: the whole content of the volume.
            named: the names beside the paths by which the class may call the files.
            owner: whose end takes the Secrets along: the pod status of a bare pod (driver.md,
                section 4.7). None makes Secrets that stay.

        Returns:
            What could not be made, in the order of the class. Empty when all is well.
        """
        owners = () if owner is None else (owner,)
        problems = []
        for entry in cls.secret_objects:
            try:
                await self._sync_one(cls.namespace, entry, files, named, owners)
            except KeyferryError as error:
                _log.error(
                    "a Secret is not in step with its volume",
                    secret=ObjectName(cls.namespace, entry.name),
                    **error.log_pairs(),
                )
                event = secret_failed(pod, cls, entry.name, error)
                await self._store.record_event(event)
                problems.append(SecretProblem(entry.name, event.message, error))
        return tuple(problems)

    async def _sync_one(
        self,
        namespace: str,
        entry: SecretObject,
        files: Sequence[SecretFile],
        named: Sequence[NamedFile],
        owners: tuple[OwnerReference, ...],
    ) -> None:
        # On a thread, because a TLS Secret loads the certificate library and parses private keys.
        secret = await asyncio.to_thread(build_secret, namespace, entry, files, named, owners)
        await self._store.apply_secret(secret)
