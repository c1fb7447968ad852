"""The hub of one Secret: who uses it, what it is to be, and how it comes to be that.

Source: driver.md, sections 4.2, 4.7 and 4.9. A Secret that cannot be made keeps no other from being
made, and never fails a mount: it becomes a warning on the pod, and a value for whoever asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from keyferry.driver.atomic import read_volume
from keyferry.driver.events import (
    secret_claimed,
    secret_failed,
    secret_recreated,
    secret_reverted,
)
from keyferry.driver.k8s_secret import build_secret
from keyferry.driver.owners import owners_of
from keyferry.driver.secret_users import Key, Usage, User, usage_of
from keyferry.driver.threads import run_whole
from keyferry.errors import (
    KeyferryError,
    SecretClaimedError,
    SecretForeignError,
    StoreAwayError,
    StoreError,
)
from keyferry.logs import ObjectName, get_logger
from keyferry.store.interface import Applied, Claim, Effect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.driver.plugins import Plugins
    from keyferry.driver.release import SecretRelease
    from keyferry.driver.volumes import Volumes
    from keyferry.secret_metrics import SecretMetrics
    from keyferry.store import ObjectStore, SecretManifest
    from keyferry.store.cluster import PodFacts
    from keyferry.store.interface import ClassObject

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
    """Keeps the Secrets that volumes of this node name.

    Args:
        store: where Secrets and events go.
        volumes: what is published here.
        plugins: tell how the files of a class may be called.
        release: lets go what nobody uses.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        volumes: Volumes,
        plugins: Plugins,
        release: SecretRelease,
        metrics: SecretMetrics,
    ) -> None:
        self._store = store
        self._volumes = volumes
        self._plugins = plugins
        self._release = release
        self._metrics = metrics
        self._holders: dict[Key, str] = {}
        self._problems: dict[Key, dict[str, SecretProblem]] = {}
        self._told: dict[tuple[Key, str], str] = {}
        """By Secret and uid of whom it is about: the text of the last event."""
        self._versions: dict[Key, str] = {}

    def version(self, key: Key) -> str | None:
        """The resourceVersion at which the Secret was right; None while it is not."""
        return self._versions.get(key)

    def problems(self, cls: ClassObject) -> tuple[SecretProblem, ...]:
        """What is wrong with the Secrets of `cls`, in its order."""
        found = (
            self._problems.get((cls.namespace, name), {}).get(cls.name)
            for name in dict.fromkeys(entry.name for entry in cls.secret_objects)
        )
        return tuple(problem for problem in found if problem is not None)

    def troubled(self) -> set[Key]:
        """The Secrets with which something is wrong."""
        return set(self._problems)

    async def reconcile(self, key: Key) -> bool:
        """Makes one Secret right; False when it is to be tried again."""
        try:
            usage = await usage_of(key, self._volumes, self._store)
            if usage.users:
                return await self._keep(key, usage)
            self._forget(key)
            if usage.held:
                return True
            return self._volumes.complete and await self._release.release(key)
        except StoreAwayError as error:
            _log.warning(
                "a Secret waits for the store", secret=ObjectName(*key), **error.log_pairs()
            )
            return False
        except StoreError as error:
            _log.error(
                "a Secret that is used here no more cannot be let go",
                secret=ObjectName(*key),
                **error.log_pairs(),
            )
            return True

    async def _keep(self, key: Key, usage: Usage) -> bool:
        classes = {cls.name: cls for cls in usage.classes}
        before = self._holders.get(key, "")
        first = classes.get(before) or next(iter(classes.values()))
        error = await self._apply(key, first, usage)
        if isinstance(error, SecretClaimedError) and error.holder in classes:
            first = classes[error.holder]
            error = await self._apply(key, first, usage)
        self._holders[key] = first.name
        problems: dict[str, KeyferryError] = {} if error is None else {first.name: error}
        holder = error.holder if isinstance(error, SecretClaimedError) else first.name
        for other in classes.values():
            if other is not first:
                problems[other.name] = _claimed_by(key, holder)
        await self._tell(key, usage, problems)
        return not isinstance(error, StoreError) or isinstance(
            error, SecretClaimedError | SecretForeignError
        )

    async def _apply(self, key: Key, cls: ClassObject, usage: Usage) -> KeyferryError | None:
        """Makes it what `cls` says; returns what hindered it."""
        self._versions.pop(key, None)
        users = [user for user in usage.users if user.cls.name == cls.name]
        source = max(users, key=lambda user: user.volume.fetched_at)
        try:
            with self._metrics.bringing(cls.provider):
                secret = await self._wanted(cls, source, users)
                secret = replace(secret, claim=self._claim(key, cls, source, usage))
                applied = await self._store.apply_secret(secret)
        except KeyferryError as error:
            self._metrics.failed(error)
            return error
        self._versions[key] = applied.version
        await self._tell_effect(key, source, secret, applied)
        return None

    async def _wanted(
        self, cls: ClassObject, source: User, users: Sequence[User]
    ) -> SecretManifest:
        files = await run_whole(read_volume, Path(source.volume.target_path))
        named = self._plugins.named_files(cls.provider, cls.parameters)
        pods = [(await self._pod_of(user), user.volume.owner) for user in users]
        owners, disowned = owners_of(pods)
        # On a thread, because a TLS Secret loads the certificate library and parses private keys.
        secret = await asyncio.to_thread(
            build_secret, cls.namespace, source.entry, files, named, owners
        )
        return replace(secret, disowned=disowned)

    async def _pod_of(self, user: User) -> PodFacts | None:
        """The pod, asked for where the mirror does not have it yet."""
        if user.pod is not None:
            return user.pod
        wanted = user.volume.pod
        try:
            found = await self._store.cluster.find_pod(wanted.namespace, wanted.name)
        except StoreError:
            return None
        return found if found is not None and found.uid == wanted.uid else None

    def _claim(self, key: Key, cls: ClassObject, source: User, usage: Usage) -> Claim:
        namespace, name = key
        known = (*self._store.cluster.classes(namespace), *usage.classes)
        return Claim(
            class_name=cls.name,
            class_version=cls.version,
            fetched_at=source.volume.fetched_at,
            rivals=frozenset(other.name for other in known if name in other.secret_names)
            - {cls.name},
            adopt=name in cls.adopted,
        )

    # --- what is told ----------------------------------------------------------------------------

    async def _tell_effect(
        self, key: Key, source: User, secret: SecretManifest, applied: Applied
    ) -> None:
        pod, cls = source.volume.pod, source.cls
        match applied.effect:
            case Effect.NONE:
                return
            case Effect.RECREATED:
                event = secret_recreated(pod, cls, secret, applied.earlier_type)
                await self._store.record_event(event)
            case Effect.REVERTED:
                self._metrics.drift_reverted()
                await self._store.record_event(secret_reverted(pod, cls, secret.name))
            case Effect.CREATED | Effect.UPDATED:
                pass
            case _:
                assert_never(applied.effect)
        _log.info("Secret " + applied.effect.value, secret=ObjectName(*key), spc=_name(cls))

    async def _tell(self, key: Key, usage: Usage, errors: dict[str, KeyferryError]) -> None:
        """Keep the problems of a Secret, and tell whom they concern, once."""
        self._problems.pop(key, None)
        concerned = {user.volume.pod.uid for user in usage.users if user.cls.name in errors}
        self._told = {
            at: text for at, text in self._told.items() if at[0] != key or at[1] in concerned
        }
        for user in usage.users:
            if error := errors.get(user.cls.name):
                event = secret_failed(user.volume.pod, user.cls, key[1], error)
                problem = SecretProblem(key[1], event.message, error)
                self._problems.setdefault(key, {})[user.cls.name] = problem
                if self._told.get((key, user.volume.pod.uid)) == event.message:
                    continue
                self._told[key, user.volume.pod.uid] = event.message
                _log.error(
                    "a Secret is not in step with its volume",
                    secret=ObjectName(*key),
                    spc=_name(user.cls),
                    pod=ObjectName(user.volume.pod.namespace, user.volume.pod.name),
                    targetPath=user.volume.target_path,
                    **error.log_pairs(),
                )
                if not isinstance(error, StoreAwayError):
                    await self._store.record_event(event)
                if isinstance(error, SecretClaimedError):
                    await self._tell_claim(key, user.cls, error.holder, usage.classes)

    async def _tell_claim(
        self, key: Key, loser: ClassObject, holder: str, classes: Iterable[ClassObject]
    ) -> None:
        known = (*self._store.cluster.classes(key[0]), *classes)
        for cls in known:
            if cls.name == holder:
                for event in secret_claimed(key[1], cls, loser):
                    await self._store.record_event(event)
                return

    def _forget(self, key: Key) -> None:
        self._versions.pop(key, None)
        self._holders.pop(key, None)
        self._problems.pop(key, None)
        self._told = {at: text for at, text in self._told.items() if at[0] != key}


def _claimed_by(key: Key, holder: str) -> SecretClaimedError:
    return SecretClaimedError(
        f"Secret {key[0]}/{key[1]} belongs to SecretProviderClass {key[0]}/{holder},"
        " which names it too",
        "Choose another secretName in one of the two classes.",
        holder=holder,
    )


def _name(cls: ClassObject) -> ObjectName:
    return ObjectName(cls.namespace, cls.name)
