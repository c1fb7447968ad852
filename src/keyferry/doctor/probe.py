"""Entry point of a diagnosis: mounts each object with the real provider, and looks at the way.

1. Plan: parse the parameters as a mount does.
2. Connect to each host, greet each vault, and mount each entry alone, all at the same time.
3. If all entries succeed, mount the whole volume, make its derived files and its Secrets.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from keyferry.doctor.checks import Check, DoctorStage, failed, in_order, ok, skipped
from keyferry.doctor.outcomes import Diagnosis, ExitCodeOf, Observations
from keyferry.doctor.places import NotMountedError, Place, place_of
from keyferry.errors import (
    ConnectionFailedError,
    IdentityError,
    InternalError,
    KeyferryError,
    ObjectUnusableError,
    ProviderNotFoundError,
    excerpt,
)
from keyferry.kubernetes.placeholders import with_placeholder_remedy
from keyferry.net.addresses import ForbiddenAddressError
from keyferry.net.connection_errors import forbidden_address_error
from keyferry.net.inspection.observed import Inspection
from keyferry.plugins.derivation import with_derived_files
from keyferry.providers.api import MountCall
from keyferry.providers.expiry import ExpiryState
from keyferry.providers.key_jobs import SERVER_CERTIFICATE
from keyferry.providers.known_fields.attributes import POD_NAMESPACE
from keyferry.providers.registry import PROVIDERS, provider_names, suggest_provider
from keyferry.providers.sources.diagnosis import Diagnosable, DiagnosisPlan
from keyferry.rendering.class_options import parse_volume_options
from keyferry.resilience.waiting import watching
from keyferry.secrets.builder import Definition, build_secret, choose_files
from keyferry.secrets.jobs import data_of
from keyferry.sync_controller.rules.refusals import with_credentials_remedy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

    from keyferry.aio.jobs import JobRunner
    from keyferry.content import SecretFile
    from keyferry.doctor.request import ProbeRequest, WantedSecret
    from keyferry.providers.api import MountResult
    from keyferry.providers.host import ProviderHost

K = TypeVar("K")
T = TypeVar("T")

MAX_CONCURRENT_MOUNTS = 8
_VOLUME = "volume"


class ProbeTools(Struct, frozen=True):
    """What a probe works with.

    Attributes:
        host: the providers.
        jobs: run parse jobs.
        exit_code: returns the exit code of an error.
    """

    host: ProviderHost
    jobs: JobRunner
    exit_code: ExitCodeOf


async def run_probe(request: ProbeRequest, tools: ProbeTools) -> tuple[Check, ...]:
    """Return the checks from the parameters to the Secret, in order. Never raises a known error.

    Args:
        request: the mount.
        tools: what the probe works with.
    """
    return await _Probe(request, tools).run()


class _Probe:
    """One diagnosis."""

    def __init__(self, request: ProbeRequest, tools: ProbeTools) -> None:
        self._request = request
        self._tools = tools
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_MOUNTS)
        self._ends_at = asyncio.get_running_loop().time() + request.seconds
        self._tenant = request.attributes.get(POD_NAMESPACE, "")
        self._targets: set[str] = set()

    async def run(self) -> tuple[Check, ...]:
        provider_name = self._request.provider
        if provider_name not in self._tools.host.names:
            if meant := suggest_provider(provider_name, provider_names()):
                return (self._misspelled(provider_name, meant),)
            reason = f"provider {provider_name!r} is not built into Keyferry"
            remedy = "See its own log: doctor checks only built-in providers."
            return (skipped(DoctorStage.PARAMETERS, provider_name, reason, remedy),)
        provider = self._tools.host.get(provider_name)
        assert isinstance(provider, Diagnosable)
        call = self._call(self._request.attributes, "")
        plan = await self._outcome(_plan(provider, call))
        if isinstance(plan, KeyferryError):
            stage = self._parse_stage(plan)
            check = failed(stage, provider_name, plan, exit_code=self._tools.exit_code(plan))
            place = Place(stage, provider_name)
            return in_order([*self._parsed_before(stage), check, *_skipped_after(place)])
        try:
            return await self._diagnose(plan)
        finally:
            for target in self._targets:
                self._tools.host.volume_removed(target, unpublished=True)

    async def _diagnose(self, plan: DiagnosisPlan) -> tuple[Check, ...]:
        seen = await self._observe(plan)
        diagnosis = Diagnosis(plan, seen, self._tools.exit_code)
        checks = list(diagnosis.checks())
        if all(each.stage is not DoctorStage.PARAMETERS for each in checks):
            count = {"objects": str(len(plan.entries))}
            checks.append(ok(DoctorStage.PARAMETERS, self._request.provider, count))
        if (place := diagnosis.failure()) is not None:
            checks += self._skipped_content(str(place))
        else:
            checks += await self._content(plan)
        return in_order(checks)

    # --- parameters -------------------------------------------------------------------------------

    def _parse_stage(self, error: KeyferryError) -> DoctorStage:
        """Return the stage of an error that parsing a mount call raised."""
        if not isinstance(error, IdentityError):
            return DoctorStage.PARAMETERS
        row = next(row for row in PROVIDERS if row.name == self._request.provider)
        needs_token = bool(row.token_audiences(self._request.parameters))
        return DoctorStage.TOKEN if needs_token else DoctorStage.CREDENTIALS

    def _parsed_before(self, stage: DoctorStage) -> list[Check]:
        if stage is DoctorStage.PARAMETERS:
            return []
        return [ok(DoctorStage.PARAMETERS, self._request.provider)]

    # --- observations -----------------------------------------------------------------------------

    async def _observe(self, plan: DiagnosisPlan) -> Observations:
        sources = plan.sources
        endpoints = {each.vault.name: each.vault for each in sources}
        endpoints |= {each.token.name: each.token for each in sources if each.token}
        inspections, greetings, entries = await asyncio.gather(
            self._outcomes(
                {
                    name: _guarded(name, each.inspect())
                    for name, each in endpoints.items()
                    if each.inspect is not None
                }
            ),
            self._outcomes(
                {name: each.greet() for name, each in endpoints.items() if each.greet is not None}
            ),
            self._outcomes(
                {
                    index: self._mount(entry.attributes, f"/{index}")
                    if not self._request.not_mounted
                    else self._leave_out()
                    for index, entry in enumerate(plan.entries)
                }
            ),
        )
        certificates = await self._outcomes(
            {
                name: self._tools.jobs.run(
                    SERVER_CERTIFICATE, each.certificate, tenant=self._tenant
                )
                for name, each in inspections.items()
                if isinstance(each, Inspection) and each.certificate
            }
        )
        return Observations(inspections, certificates, greetings, tuple(entries.values()))

    async def _outcomes(
        self, work: Mapping[K, Coroutine[None, None, T]]
    ) -> dict[K, T | KeyferryError]:
        """Return the results by key, after doing all work at the same time."""
        found = await asyncio.gather(*map(self._outcome, work.values()))
        return dict(zip(work, found, strict=True))

    async def _leave_out(self) -> MountResult:
        raise NotMountedError(self._request.not_mounted)

    async def _mount(self, attributes: Mapping[str, str], suffix: str) -> MountResult:
        call = self._call(attributes, suffix)
        self._targets.add(call.target_path)
        async with self._slots:
            return await self._tools.host.mount(self._request.provider, call)

    def _misspelled(self, name: str, meant: str) -> Check:
        error = ProviderNotFoundError(
            f"provider {excerpt(name)!r} is not built in",
            f"Did you mean {meant!r}? Otherwise install this provider on the nodes.",
        )
        code = self._tools.exit_code(error)
        return failed(DoctorStage.CLASS, name, error, exit_code=code)

    def _call(self, attributes: Mapping[str, str], suffix: str) -> MountCall:
        return MountCall(
            attributes=attributes,
            secrets=self._request.secrets,
            target_path=f"{self._request.target_path}{suffix}",
        )

    async def _outcome(self, work: Coroutine[None, None, T]) -> T | KeyferryError:
        """Return the result of `work`, or its error; also if it takes too long."""
        with watching() as monitor:
            task = asyncio.ensure_future(work)
            left = self._ends_at - asyncio.get_running_loop().time()
            await asyncio.wait({task}, timeout=max(0.0, left))
            if not task.done():
                wait = monitor.current()
                task.cancel()
                await asyncio.wait({task})
                name = wait.host if wait else "the vault"
                error = ConnectionFailedError(
                    f"{name} did not answer within {self._request.seconds:g} s (--timeout)",
                    "Check that it responds to this machine, or set a longer --timeout.",
                    stage=wait.stage if wait else None,
                )
                error.host = name
                return error
        try:
            return task.result()
        except KeyferryError as error:
            error = with_placeholder_remedy(error, self._request.parameters)
            is_sync = self._request.definition is Definition.SECRET_SYNC
            return with_credentials_remedy(error) if is_sync else error
        except Exception as error:  # noqa: BLE001 - one check must not hide the others
            return InternalError(f"internal error ({type(error).__name__})")

    # --- content ----------------------------------------------------------------------------------

    async def _content(self, plan: DiagnosisPlan) -> list[Check]:
        """Return the checks of the whole volume and of its Secrets."""
        outcome = await self._outcome(self._render())
        if isinstance(outcome, KeyferryError):
            place = place_of(outcome, _VOLUME, plan.sources[0], proxied=False)
            if place.stage is DoctorStage.PARAMETERS:
                place = Place(DoctorStage.RENDERING, _VOLUME)
            code = self._tools.exit_code(outcome)
            check = failed(place.stage, place.subject, outcome, exit_code=code)
            return [check, *self._skipped_secrets(str(place))]
        result, files = outcome
        checks = [ok(DoctorStage.RENDERING, _VOLUME, {"files": str(len(files))})]
        checks += _expired_objects(result, time.time(), self._tools.exit_code)
        for wanted in self._request.wanted_secrets:
            secret = await self._outcome(self._secret(wanted, files, result))
            if isinstance(secret, KeyferryError):
                code = self._tools.exit_code(secret)
                checks.append(failed(DoctorStage.SECRET, wanted.name, secret, exit_code=code))
            elif secret is None:
                reason = "left out: optional objects of it are missing"
                checks.append(skipped(DoctorStage.SECRET, wanted.name, reason))
            else:
                facts = {"type": wanted.type or "Opaque", "keys": ", ".join(secret)}
                checks.append(ok(DoctorStage.SECRET, wanted.name, facts))
        return checks

    async def _render(self) -> tuple[MountResult, Sequence[SecretFile]]:
        options = parse_volume_options(self._request.attributes)
        result = await self._mount(self._request.attributes, "")
        files = await with_derived_files(
            result.files, result.missing, options, jobs=self._tools.jobs, tenant=self._tenant
        )
        return result, files

    async def _secret(
        self, wanted: WantedSecret, files: Sequence[SecretFile], result: MountResult
    ) -> tuple[str, ...] | None:
        """Return the keys of a Secret; None if it is left out."""
        request, host = self._request, self._tools.host
        secret_object = wanted.secret_object
        named = await host.named_files(request.provider, request.parameters)
        chosen = choose_files(
            secret_object, files, named, result.missing, definition=request.definition
        )
        if chosen.request is None:
            return None
        data = await data_of(chosen.request, self._tools.jobs, tenant=self._tenant)
        built = build_secret(self._tenant, secret_object, data, (), definition=request.definition)
        return tuple(sorted(built.data))

    def _skipped_content(self, reason: str) -> list[Check]:
        volume = skipped(DoctorStage.RENDERING, _VOLUME, reason)
        return [volume, *self._skipped_secrets(reason)]

    def _skipped_secrets(self, reason: str) -> list[Check]:
        names = (each.name for each in self._request.wanted_secrets)
        return [skipped(DoctorStage.SECRET, name, reason) for name in names]


async def _plan(provider: Diagnosable, call: MountCall) -> DiagnosisPlan:
    """Parse everything that can be parsed without a request."""
    plan = await provider.plan_diagnosis(call)
    parse_volume_options(call.attributes)
    return plan


async def _guarded(name: str, work: Coroutine[None, None, T]) -> T:
    try:
        return await work
    except ForbiddenAddressError:
        raise forbidden_address_error(f"reach {name}", name) from None


def _skipped_after(place: Place) -> list[Check]:
    """Return the checks that an error of the parameters makes impossible."""
    return [skipped(DoctorStage.OBJECT, "all objects", str(place))]


def _expired_objects(result: MountResult, now: float, exit_code: ExitCodeOf) -> Iterator[Check]:
    """Yield a check that failed for each object that has expired.

    Args:
        result: of the mount.
        now: seconds since 1970.
        exit_code: returns the exit code of an error.
    """
    for each in result.expiries or ():
        if each.state(now) is ExpiryState.EXPIRED:
            error = ObjectUnusableError(
                each.warning(now), "It is still delivered. Store a new version in the vault."
            )
            yield failed(DoctorStage.OBJECT, each.object_name, error, exit_code=exit_code(error))
