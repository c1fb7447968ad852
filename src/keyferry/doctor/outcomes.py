"""Decides what the observations of a probe mean. [pure]"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from keyferry.doctor.checks import STAGES, Check, DoctorStage, failed, in_order, ok, skipped
from keyferry.doctor.facts import connection_facts, object_facts
from keyferry.doctor.places import (
    NETWORK,
    STAGES_OF_ERRORS,
    NotMountedError,
    Place,
    host_of,
    place_of,
)
from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    IdentityError,
    KeyferryError,
    Stage,
)
from keyferry.net.inspection.observed import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.formats.certs.summary import CertificateSummary
    from keyferry.providers.api import MountResult
    from keyferry.providers.sources.diagnosis import (
        DiagnosedEntry,
        DiagnosedSource,
        DiagnosisPlan,
        Endpoint,
        Facts,
    )

ExitCodeOf: TypeAlias = Callable[[KeyferryError], int]
"""Returns the exit code of `keyferry mount` for an error."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What the probe saw.

    Attributes:
        inspections: by name of an endpoint; an error of the provider for an address or a TLS file
            that cannot be used.
        certificates: those that the servers presented, by name of an endpoint.
        greetings: by name of a vault.
        entries: the outcome of a mount of each entry, in their order.
    """

    inspections: Mapping[str, Inspection | KeyferryError]
    certificates: Mapping[str, CertificateSummary | KeyferryError]
    greetings: Mapping[str, Facts | KeyferryError]
    entries: tuple[MountResult | KeyferryError, ...] = field(repr=False)


class Diagnosis:
    """Turns observations into checks.

    Args:
        plan: the parts of the mount.
        seen: what the probe saw.
        exit_code: returns the exit code of an error.
    """

    def __init__(self, plan: DiagnosisPlan, seen: Observations, exit_code: ExitCodeOf) -> None:
        self._plan = plan
        self._seen = seen
        self._exit_code = exit_code
        self._failures: dict[Place, KeyferryError] = {}
        self._broken: dict[str, Place] = {}  # the first failed network stage of each endpoint
        self._places = self._find_failures()

    def checks(self) -> tuple[Check, ...]:
        """Return the checks from the parameters to the objects, in order."""
        checks: list[Check] = []
        for endpoint in self._endpoints():
            checks += self._network(endpoint)
        for source in self._plan.sources:
            checks += self._token_endpoint(source)
        for vault in self._vaults():
            checks += self._vault(vault)
        for source in self._plan.sources:
            checks += self._login(source)
        for vault in self._vaults():
            checks += self._permissions(vault)
        checks += map(self._object, range(len(self._plan.entries)))
        shown = {(each.stage, each.subject) for each in checks}
        for place, error in self._failures.items():  # such as rendering one object
            if (place.stage, place.subject) not in shown:
                checks.append(self._failed(place, error))
        unique = {(each.stage, each.subject, each.problem): each for each in checks}
        return in_order(list(unique.values()))

    def failure(self) -> Place | None:
        """Return the first stage at which an entry failed, or None."""
        return next((place for place in self._places if place is not None), None)

    # --- failures ---------------------------------------------------------------------------------

    def _find_failures(self) -> list[Place | None]:
        """Record the failures, and return the place at which each entry failed.

        1. A vault or a token endpoint that cannot be connected to, unless a mount has reached it:
           a mount is always right.
        2. Entries. A failed connection that an inspection has explained is not repeated.
        3. A vault that answers that it cannot serve requests.
        """
        for endpoint in self._endpoints():
            seen = self._seen.inspections.get(endpoint.name)
            if self._is_reached(endpoint):
                continue
            if isinstance(seen, KeyferryError):
                place = Place(STAGES_OF_ERRORS.get(seen.stage, DoctorStage.TLS), endpoint.name)
                if isinstance(seen, ClassInvalidError):
                    place = Place(DoctorStage.PARAMETERS, endpoint.name)
                self._break(endpoint.name, place, seen)
            elif seen is not None and seen.problem is not None:
                stage = STAGES_OF_ERRORS[seen.problem.stage]
                if seen.proxy and stage in (DoctorStage.DNS, DoctorStage.TCP):
                    stage = DoctorStage.PROXY
                error = seen.problem.error(f"reach {endpoint.name}")
                self._break(endpoint.name, Place(stage, endpoint.name), error)
        places = [self._entry_place(index) for index in range(len(self._plan.entries))]
        for name, greeting in self._seen.greetings.items():
            place = Place(DoctorStage.VAULT, name)
            is_known = name in self._broken or place in self._failures
            if not is_known and _cannot_serve(greeting):
                self._failures[place] = greeting
        return places

    def _is_reached(self, endpoint: Endpoint) -> bool:
        """Return whether a mount got an answer from an endpoint."""
        for entry, outcome in zip(self._plan.entries, self._seen.entries, strict=True):
            source = self._plan.sources[entry.source]
            if endpoint not in (source.vault, source.token):
                continue
            if not isinstance(outcome, KeyferryError):
                return True
            if isinstance(outcome, NotMountedError):
                continue
            place = place_of(outcome, entry.name, source)
            is_later = STAGES.index(place.stage) > STAGES.index(DoctorStage.TOKEN_ENDPOINT)
            answered = endpoint == source.token and place.stage is DoctorStage.TOKEN_ENDPOINT
            passed = endpoint == source.token and place.subject != endpoint.name
            if is_later or answered or (passed and place.stage in NETWORK):
                return True
        return False

    def _break(self, name: str, place: Place, error: KeyferryError) -> None:
        self._broken[name] = place
        self._failures[place] = error

    def _entry_place(self, index: int) -> Place | None:
        outcome, entry = self._seen.entries[index], self._plan.entries[index]
        if not isinstance(outcome, KeyferryError):
            return None
        if isinstance(outcome, NotMountedError):
            return Place(DoctorStage.TOKEN, entry.name, outcome.problem)
        source = self._plan.sources[entry.source]
        host = host_of(outcome) or source.vault.name
        place = place_of(outcome, entry.name, source, proxied=self._is_proxied(host))
        if known := self._broken.get(place.subject):
            if known == place:  # the remedy of a mount names the parameters
                self._failures[place] = outcome
            return known
        if place.stage in NETWORK:
            self._broken[place.subject] = place
        if place.stage in (DoctorStage.TOKEN_ENDPOINT, DoctorStage.LOGIN):
            place = Place(place.stage, self._label(source, place.subject))
        self._failures.setdefault(place, outcome)
        return place

    def _label(self, source: DiagnosedSource, host: str) -> str:
        """Return a host, with the identity of the source if several identities use the host."""
        identities = {
            each.identity
            for each in self._plan.sources
            if host in (each.vault.name, each.token.name if each.token else "")
        }
        return host if len(identities) < 2 else f"{host} ({source.identity})"

    def _is_proxied(self, name: str) -> bool:
        seen = self._seen.inspections.get(name)
        return isinstance(seen, Inspection) and bool(seen.proxy)

    def _failed(
        self, place: Place, error: KeyferryError, facts: Facts | None = None, fix: str = ""
    ) -> Check:
        return failed(
            place.stage,
            place.subject,
            error,
            exit_code=self._exit_code(error),
            facts=facts,
            fix=fix,
        )

    # --- endpoints --------------------------------------------------------------------------------

    def _endpoints(self) -> Iterable[Endpoint]:
        """Return token endpoints, then vaults, each once."""
        tokens = {each.token.name: each.token for each in self._plan.sources if each.token}
        return {**tokens, **{each.name: each for each in self._vaults()}}.values()

    def _vaults(self) -> Iterable[Endpoint]:
        return {each.vault.name: each.vault for each in self._plan.sources}.values()

    def _network(self, endpoint: Endpoint) -> list[Check]:
        seen = self._seen.inspections.get(endpoint.name)
        broken = self._broken.get(endpoint.name)
        found = self._seen.certificates.get(endpoint.name)
        certificate = None if isinstance(found, KeyferryError) else found
        facts = connection_facts(seen, certificate) if isinstance(seen, Inspection) else {}
        checks = []
        for stage in NETWORK:
            place = Place(stage, endpoint.name)
            if place in self._failures:
                checks.append(self._failed(place, self._failures[place], facts.get(stage)))
            elif broken is not None and (
                broken.stage not in NETWORK or NETWORK.index(broken.stage) < NETWORK.index(stage)
            ):
                checks.append(skipped(stage, endpoint.name, str(broken)))
            elif stage in facts:
                checks.append(ok(stage, endpoint.name, facts[stage]))
            elif seen is None:
                # Nothing to look at, such as a Unix socket: the request itself shows it.
                continue
            elif not isinstance(seen, Inspection):
                checks.append(skipped(stage, endpoint.name, "the connection was not inspected"))
            elif stage is DoctorStage.DNS:
                reason = "the development vault answers for this name"
                if seen.is_address:
                    reason = "it is an address"
                checks.append(skipped(stage, endpoint.name, reason))
            elif stage is DoctorStage.TLS:
                checks.append(skipped(stage, endpoint.name, "the address is plain http"))
        return checks

    def _token_endpoint(self, source: DiagnosedSource) -> list[Check]:
        if source.token is None:
            return []
        subject = self._label(source, source.token.name)
        place = Place(DoctorStage.TOKEN_ENDPOINT, subject)
        facts = {"identity": source.identity, **source.facts}
        if error := self._failures.get(place):
            refused = isinstance(error, IdentityError) and error.is_federation
            fix = source.fix if refused else ""
            return [self._failed(place, error, facts, fix)]
        if cause := self._broken.get(source.token.name) or self._not_mounted(source):
            return [skipped(place.stage, place.subject, str(cause))]
        return [ok(place.stage, place.subject, facts)]

    # --- vaults -----------------------------------------------------------------------------------

    def _vault(self, vault: Endpoint) -> list[Check]:
        place = Place(DoctorStage.VAULT, vault.name)
        if error := self._failures.get(place):
            return [self._failed(place, error)]
        if broken := self._broken.get(vault.name):
            return [skipped(place.stage, vault.name, str(broken))]
        greeting = self._seen.greetings.get(vault.name)
        if greeting is None or isinstance(greeting, KeyferryError):
            greeting = {}
            if all(place is not None for place in self._places_of(vault)):
                return []  # nothing has asked it
        return [ok(place.stage, vault.name, greeting)]

    def _login(self, source: DiagnosedSource) -> list[Check]:
        place = Place(DoctorStage.LOGIN, self._label(source, source.vault.name))
        facts = {"identity": source.identity, **({} if source.token else source.facts)}
        if error := self._failures.get(place):
            return [self._failed(place, error, facts)]
        cause = self._cause_before(DoctorStage.LOGIN, source)
        if cause := cause or self._not_mounted(source):
            return [skipped(place.stage, place.subject, str(cause))]
        return [ok(place.stage, place.subject, facts)]

    def _permissions(self, vault: Endpoint) -> list[Check]:
        """Return the checks of firewall and permission; one for all objects that are permitted."""
        checks = []
        place = Place(DoctorStage.FIREWALL, vault.name)
        has_firewall = any(
            source.vault == vault and source.token is not None for source in self._plan.sources
        )
        places = self._places_of(vault)
        cause = next((each for each in places if each is not None and _is_before(each)), None)
        if error := self._failures.get(place):
            checks.append(self._failed(place, error))
        elif has_firewall and cause is not None:
            checks.append(skipped(place.stage, vault.name, str(cause)))
        elif has_firewall:
            checks.append(ok(place.stage, vault.name))
        denied = []
        for entry, at in zip(self._entries_of(vault), places, strict=True):
            if at is not None and at.stage is DoctorStage.PERMISSION:
                denied.append(entry)
                outcome = self._failures[at]
                assert isinstance(outcome, AccessDeniedError)
                checks.append(self._failed(at, outcome, {"missing": outcome.denial.value}))
        cause = cause or (place if place in self._failures else None)
        reached = [each for each in places if each is None or not _is_before(each)]
        if cause is not None and not reached:
            checks.append(skipped(DoctorStage.PERMISSION, vault.name, str(cause)))
        elif len(places) > len(denied):
            count = f"{len(places) - len(denied)} of {len(places)}"
            checks.append(ok(DoctorStage.PERMISSION, vault.name, {"objects": count}))
        return checks

    def _object(self, index: int) -> Check:
        entry, outcome, place = (
            self._plan.entries[index],
            self._seen.entries[index],
            self._places[index],
        )
        if isinstance(outcome, KeyferryError):
            assert place is not None
            if place.stage is DoctorStage.OBJECT:
                return self._failed(place, self._failures[place])
            if place.stage is not DoctorStage.RENDERING:
                return skipped(DoctorStage.OBJECT, entry.name, str(place))
            return ok(DoctorStage.OBJECT, entry.name)
        return ok(DoctorStage.OBJECT, entry.name, object_facts(outcome, entry))

    def _not_mounted(self, source: DiagnosedSource) -> Place | None:
        """Return why no entry of a source could be mounted for lack of a token, or None."""
        return next(
            (
                place
                for entry, place in zip(self._plan.entries, self._places, strict=True)
                if self._plan.sources[entry.source] == source
                and place is not None
                and place.stage is DoctorStage.TOKEN
            ),
            None,
        )

    def _entries_of(self, vault: Endpoint) -> list[DiagnosedEntry]:
        sources = self._plan.sources
        return [each for each in self._plan.entries if sources[each.source].vault == vault]

    def _places_of(self, vault: Endpoint) -> list[Place | None]:
        sources = self._plan.sources
        return [
            place
            for each, place in zip(self._plan.entries, self._places, strict=True)
            if sources[each.source].vault == vault
        ]

    def _cause_before(self, stage: DoctorStage, source: DiagnosedSource) -> Place | None:
        """Return a failure of an earlier stage that concerns a source, or None."""
        hosts = [each.name for each in (source.token, source.vault) if each is not None]
        names = {*hosts, *(self._label(source, host) for host in hosts)}
        found = [
            place
            for place in self._failures
            if place.subject in names and STAGES.index(place.stage) < STAGES.index(stage)
        ]
        return min(found, key=lambda each: STAGES.index(each.stage), default=None)


def _cannot_serve(greeting: Facts | KeyferryError) -> TypeGuard[KeyferryError]:
    """Return whether a vault answered that it cannot serve requests now."""
    return isinstance(greeting, KeyferryError) and greeting.stage is Stage.VAULT


def _is_before(place: Place) -> bool:
    """Return whether an entry failed before the vault decided about a permission."""
    return STAGES.index(place.stage) < STAGES.index(DoctorStage.PERMISSION)
