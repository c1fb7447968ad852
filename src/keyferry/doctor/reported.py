"""What the driver or the SecretSync controller has reported, for what a probe does not see.

They write Secrets with their own rights: a quota, an admission policy, a missing role and another
Secret of the same name show only there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.doctor.checks import Check, DoctorStage, Status, failed
from keyferry.doctor.facts import format_time
from keyferry.driver.status.events import FAILED_TO_CREATE_SECRET, FAILED_TO_MOUNT_OBJECTS
from keyferry.errors import AuthorError, StoreError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.inventory.secrets import managed_secrets
from keyferry.inventory.users import environment_secrets
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.resources import EventResource, SecretResource
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_LABEL
from keyferry.kubernetes.syncs.conditions import READY
from keyferry.kubernetes.syncs.objects import ConditionStatus
from keyferry.kubernetes.syncs.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.doctor.outcomes import ExitCodeOf
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import Pod, SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync


_PENDING = "Pending"
_FAILURE = 1
"""The exit code of a failure that no command of Keyferry had."""
_STAGES = {
    Reason.MISCONFIGURED.value: DoctorStage.PARAMETERS,
    Reason.PROVIDER.value: DoctorStage.VAULT,
    Reason.FETCH_FAILED.value: DoctorStage.RENDERING,
}
"""By the reason of the condition; all others concern the Secret."""


async def reported_by_driver(api: KubeApi, pod: Pod, spc: SecretProviderClass) -> tuple[Check, ...]:
    """Return why the driver could not mount a volume or write its Secrets, if it said so.

    Events outlive their cause by up to an hour:

    1. A Secret that exists has been written since.
    2. The volumes of a pod that has started are mounted.
    3. Secrets are written after the mount.

    Args:
        api: with the rights of the caller; without those to list events and Secrets, nothing is
            reported, and the other stages are still of use.
        pod: with the volume.
        spc: the SecretProviderClass of the volume.
    """
    try:
        refused = await _refused_secrets(api, pod, spc)
        if refused or pod.phase != _PENDING:
            return refused
        messages = await _messages(api, pod, FAILED_TO_MOUNT_OBJECTS)
    except StoreError:
        return ()
    return tuple(
        _failed(DoctorStage.RENDERING, "volume", f"the driver reports: {message}")
        for message in messages
        if f"of spc {spc.namespace}/{spc.name}, err:" in message
    )


async def _refused_secrets(api: KubeApi, pod: Pod, spc: SecretProviderClass) -> tuple[Check, ...]:
    names = [entry.name for entry in spc.secret_objects]
    messages = await _messages(api, pod, FAILED_TO_CREATE_SECRET) if names else []
    written = await _written(api, pod.namespace) if messages else frozenset()
    return tuple(
        _failed(DoctorStage.SECRET, name, message)
        for name in names
        if name not in written
        for message in messages
        if f"secret {name} of" in message or f"secret {name}, err" in message
    )


async def _messages(api: KubeApi, pod: Pod, reason: str) -> list[str]:
    """Return the messages of the events of a pod with this reason."""
    selector = {"involvedObject.uid": pod.uid, "reason": reason}
    events = await api.list(ListOptions(EventResource, pod.namespace, field_selector=selector))
    return sorted({_message(Field(each)) for each in events} - {""})


async def _written(api: KubeApi, namespace: str) -> frozenset[str]:
    """Return the Secrets that the driver manages."""
    options = ListOptions(
        SecretResource, namespace, label_selector={MANAGED_LABEL: "true"}, metadata_only=True
    )
    return frozenset(Field(each)["metadata"]["name"].text() for each in await api.list(options))


def reported_by_controller(sync: SecretSync, *, is_opted_in: bool) -> tuple[Check, ...]:
    """Return why the controller could not sync a SecretSync, if its last attempt failed.

    Args:
        sync: with its status.
        is_opted_in: whether the service account permits SecretSyncs, which some controllers need.
    """
    return tuple(_not_ready(sync, is_opted_in=is_opted_in))


def _not_ready(sync: SecretSync, *, is_opted_in: bool) -> Iterable[Check]:
    for each in sync.status.conditions:
        if each.type == READY and each.status is ConditionStatus.FALSE and each.message:
            stage = _STAGES.get(each.reason, DoctorStage.SECRET)
            if each.reason == Reason.CONTROLLER.value and not is_opted_in:
                stage = DoctorStage.SERVICE_ACCOUNT
            yield _failed(stage, sync.ref.name, each.message)


def _failed(stage: DoctorStage, subject: str, message: str) -> Check:
    """Return a check that failed elsewhere; its message ends with the remedy."""
    problem, _, remedy = message.partition(". ")
    return Check(stage, subject, Status.FAILED, {}, problem, remedy, _FAILURE)


def _message(event: Field) -> str:
    try:
        return event["message"].text()
    except FieldTypeError:
        return ""


async def old_environment(
    api: KubeApi, namespace: str, name: str, pod: Manifest, exit_code: ExitCodeOf
) -> tuple[Check, ...]:
    """Return a check that failed for each Secret that changed after a container had started.

    Args:
        api: with the rights of the caller; without that to list Secrets, nothing is reported.
        namespace: of the pod.
        name: of the pod.
        pod: the pod.
        exit_code: returns the exit code of an error.
    """
    started = environment_secrets(pod)
    if not started:
        return ()
    try:
        found = [
            manifest
            for label in (MANAGED_LABEL, SYNC_LABEL)
            for manifest in await api.list(
                ListOptions(
                    SecretResource, namespace, label_selector={label: None}, metadata_only=True
                )
            )
        ]
    except StoreError:
        return ()
    checks = []
    for secret in managed_secrets(found):
        start = started.get(secret.name)
        if start is None or secret.changed_at is None or secret.changed_at <= start:
            continue
        error = AuthorError(
            f"a container of pod {namespace}/{name} has old environment variables: Secret"
            f" {secret.name} changed at {format_time(secret.changed_at)}, after the container had"
            " started",
            f"Environment variables never change in a running container. Restart the pod: kubectl"
            f" delete pod {name} --namespace {namespace}",
        )
        stage, code = DoctorStage.ENVIRONMENT, exit_code(error)
        checks.append(failed(stage, secret.name, error, exit_code=code))
    return tuple(checks)
