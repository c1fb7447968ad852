"""Reads and writes Secrets with the Kubernetes API.

This is the life of every Secret, of a SecretProviderClass and of a SecretSync: `plan_secret`
decides, `secret_patch` builds the requests, and a Secret that changes between read and write is
read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from keyferry.errors import StoreError
from keyferry.formats.fields import FieldTypeError
from keyferry.kubernetes.api.api_errors import ApiConflictError, ApiNotFoundError
from keyferry.kubernetes.api.resources import SecretResource
from keyferry.kubernetes.api.secret_patch import (
    applied_content,
    created_content,
    follow_up_patch,
    kept_owners_patch,
    release_fields,
    takeover_patch,
    unmark_patch,
    unused_patch,
)
from keyferry.kubernetes.api.write_check import permit_write
from keyferry.kubernetes.markings import DRIVER_MARKING
from keyferry.kubernetes.names import check_names
from keyferry.kubernetes.object_codec import parse_secret
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult, SyncClaim
from keyferry.kubernetes.secret_change import Adopt, Create, Keep, Recreate, Update
from keyferry.kubernetes.secret_plan import for_live_secret, plan_secret, replaced_keys

if TYPE_CHECKING:
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.write_check import WriteCheck
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.markings import Marking
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import DesiredSecret, OwnerReference

SECRET_ATTEMPTS = 5
"""Attempts to write a Secret that changes between read and write."""


class SecretStore:
    """Reads and writes Secrets.

    Args:
        api: the Kubernetes API.
        check_write: of each write, except for the creation that completes a recreation.
    """

    def __init__(self, api: KubeApi, check_write: WriteCheck = permit_write) -> None:
        self._api = api
        self._check_write = check_write

    async def apply_secret(
        self, secret: DesiredSecret, *, seems_absent: bool = False
    ) -> ApplyResult:
        """Create or update a Secret as `plan_secret` decides.

        Args:
            secret: the Secret to write.
            seems_absent: whether it probably does not exist, so that it is not read first. If it
                does, the first write is refused, and it is read.

        Raises:
            SecretNotManagedError: one of that name exists that Keyferry does not manage.
            SecretConflictError: another SecretProviderClass or SecretSync owns it.
            StoreError: the API rejected the write, or is unavailable.
        """
        check_names(secret.namespace, secret.name, "Secret")
        for attempt in range(SECRET_ATTEMPTS - 1):
            try:
                return await self._apply_secret(secret, reads=attempt > 0 or not seems_absent)
            except (ApiConflictError, ApiNotFoundError):
                continue
        return await self._apply_secret(secret)

    async def _apply_secret(self, wanted: DesiredSecret, *, reads: bool = True) -> ApplyResult:
        at = SecretResource, wanted.namespace, wanted.name
        marking = wanted.marking
        manager = marking.field_manager
        live = None
        if reads:
            live = await self.find_secret(wanted.namespace, wanted.name, marking=marking)
        desired = for_live_secret(wanted, live)
        plan = plan_secret(desired, live)
        match plan:
            case Keep():
                assert live is not None
                outcome, answer = ApplyOutcome.UNCHANGED, live
            case Update() | Adopt():
                assert live is not None
                outcome = ApplyOutcome.ADOPTED
                if isinstance(plan, Update):
                    outcome = ApplyOutcome.REVERTED if plan.reverts else ApplyOutcome.UPDATED
                content = applied_content(desired, await self._taken_over(desired, live))
                answer = await self._apply(at, content, force=True, marking=marking)
            case Create():
                outcome = ApplyOutcome.CREATED
                content = created_content(desired, None)
                answer = await self._apply(at, content, force=False, marking=marking)
            case Recreate():
                assert live is not None
                outcome = ApplyOutcome.RECREATED
                await self._api.delete(
                    *at,
                    uid=live.uid,
                    resource_version=live.resource_version,
                    check_write=self._check_write,
                )
                content = created_content(desired, live)
                try:
                    answer = await self._apply(
                        at, content, force=False, marking=marking, check_write=permit_write
                    )
                except ApiConflictError:
                    # Another node has created it, without these owners. That of a SecretSync was
                    # created by a stranger.
                    if not isinstance(desired.claim, SyncClaim):
                        await self._api.strategic_merge(*at, kept_owners_patch(desired, live))
                    raise
            case _:
                assert_never(plan)
        patch = follow_up_patch(desired, answer, keep_data=isinstance(plan, Keep))
        if patch is not None:
            merged = await self._api.strategic_merge(
                *at, patch, field_manager=manager, check_write=self._check_write
            )
            answer = _parse_live_secret(merged, marking)
            outcome = ApplyOutcome.UPDATED if outcome is ApplyOutcome.UNCHANGED else outcome
        return ApplyResult(
            outcome,
            answer.resource_version,
            live.type if live else "",
            replaced_keys(desired, live) if live and isinstance(plan, Update | Adopt) else (),
            answer.uid,
        )

    async def _taken_over(self, desired: DesiredSecret, live: LiveSecret) -> LiveSecret:
        """Return the live Secret with the desired owners, if an apply could not set them."""
        at = SecretResource, desired.namespace, desired.name
        marking = desired.marking
        if patch := takeover_patch(desired, live):
            merged = await self._api.strategic_merge(
                *at, patch, field_manager=marking.field_manager, check_write=self._check_write
            )
            live = _parse_live_secret(merged, marking)
        return live

    async def _apply(
        self,
        at: tuple[type[SecretResource], str, str],
        content: Manifest,
        *,
        force: bool,
        marking: Marking,
        check_write: WriteCheck | None = None,
    ) -> LiveSecret:
        """Apply; then earlier field managers own nothing any more. Returns the live Secret."""
        applied = await self._api.apply(
            *at,
            content,
            force=force,
            field_manager=marking.field_manager,
            check_write=check_write or self._check_write,
        )
        live = _parse_live_secret(applied, marking)
        for former in sorted(live.former_managers):
            empty = release_fields(at[1], at[2], live)
            applied = await self._api.apply(
                *at, empty, force=True, field_manager=former, check_write=self._check_write
            )
            live = _parse_live_secret(applied, marking)
        return live

    async def find_secret(
        self, namespace: str, name: str, *, marking: Marking = DRIVER_MARKING
    ) -> LiveSecret | None:
        """Return the live Secret, or None.

        Args:
            namespace: of the Secret.
            name: of the Secret.
            marking: of the command that reads it.
        """
        check_names(namespace, name, "Secret")
        found = await self._api.find(SecretResource, namespace, name)
        return None if found is None else _parse_live_secret(found, marking)

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete a Secret if it is still `expected`. Returns False if it changed."""
        try:
            await self._api.delete(
                SecretResource,
                namespace,
                name,
                uid=expected.uid,
                resource_version=expected.resource_version,
                check_write=self._check_write,
            )
        except ApiNotFoundError:
            return True
        except ApiConflictError:
            return False
        return True

    async def mark_secret_unused(
        self,
        namespace: str,
        name: str,
        expected: LiveSecret,
        *,
        since: str,
        owner: OwnerReference | None,
    ) -> bool:
        """Mark a Secret as unused if it is still `expected`. Returns False if it changed."""
        patch = unused_patch(expected, since, owner)
        try:
            await self._api.strategic_merge(SecretResource, namespace, name, patch)
        except (ApiNotFoundError, ApiConflictError):
            return False
        return True

    async def release_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Remove what Keyferry wrote to an adopted Secret. Returns False if it changed."""
        at = SecretResource, namespace, name
        try:
            merged = await self._api.strategic_merge(*at, unmark_patch(expected))
            content = release_fields(namespace, name, _parse_live_secret(merged))
            await self._api.apply(*at, content, force=True)
        except ApiNotFoundError:
            return True
        except ApiConflictError:
            return False
        return True


def _parse_live_secret(manifest: Manifest, marking: Marking = DRIVER_MARKING) -> LiveSecret:
    try:
        return parse_secret(manifest, from_api=True, marking=marking)
    except FieldTypeError as error:
        raise StoreError(
            f"the Kubernetes API returned an invalid Secret: {error.problem}",
            "Check what answers at its address.",
        ) from None
