"""Decides which stage of a mount an error belongs to, and what the observations mean. [pure]

Errors are told apart by their types and stages, never by their texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from keyferry.doctor.checks import (
    Check,
    DoctorStage,
    failed,
    in_order,
    ok,
    skipped,
)
from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    ConnectionFailedError,
    Denial,
    IdentityError,
    KeyferryError,
    ObjectUnusableError,
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

_ORDER = list(DoctorStage)
_NETWORK = (DoctorStage.DNS, DoctorStage.PROXY, DoctorStage.TCP, DoctorStage.TLS)
_STAGES = {
    Stage.DNS: DoctorStage.DNS,
    Stage.CONNECT: DoctorStage.TCP,
    Stage.TLS: DoctorStage.TLS,
    Stage.IDENTITY: DoctorStage.VAULT,
    Stage.VAULT: DoctorStage.VAULT,
    Stage.OBJECT: DoctorStage.OBJECT,
    Stage.VOLUME: DoctorStage.RENDERING,
    Stage.SECRET: DoctorStage.SECRET,
}
"""By the stage of an error whose type says no more."""
_DENIALS = {
    Denial.TOKEN: DoctorStage.LOGIN,
    Denial.NETWORK: DoctorStage.FIREWALL,
    Denial.ROLE: DoctorStage.PERMISSION,
    Denial.POLICY: DoctorStage.PERMISSION,
}
_OF_VAULTS = (DoctorStage.VAULT, DoctorStage.LOGIN, DoctorStage.FIREWALL)
"""The stages whose subject is a vault."""


class NotMountedError(KeyferryError):
    """An object was not mounted; the problem says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A stage and its subject.

    Attributes:
        reason: why later stages are skipped, if it is not that this one failed.
    """

    stage: DoctorStage
    subject: str
    reason: str = ""

    def __str__(self) -> str:
        """Return the reason of skipped checks."""
        return self.reason or f"{self.stage} of {self.subject} failed"


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


def place_of(
    error: KeyferryError, entry: str, source: DiagnosedSource, *, proxied: bool = False
) -> Place:
    """Return the stage that an error of a mount belongs to, and its subject.

    Args:
        error: of the mount.
        entry: the name of the entry, or of the volume.
        source: of the entry.
        proxied: whether a proxy applies to the host of the error.
    """
    stage = _stage_of(error, has_token_endpoint=source.token is not None)
    token = source.token.name if source.token else ""
    if stage is DoctorStage.DNS and proxied:
        stage = DoctorStage.PROXY
    if stage in _NETWORK:
        return Place(stage, token if token and _host(error) == token else source.vault.name)
    if stage is DoctorStage.TOKEN_ENDPOINT:
        return Place(stage, token)
    if stage is DoctorStage.TOKEN:
        return Place(stage, "service account")
    if stage in _OF_VAULTS or _is_forbidden_address(error):
        return Place(stage, source.vault.name)
    return Place(stage, entry)


def _stage_of(error: KeyferryError, *, has_token_endpoint: bool) -> DoctorStage:
    match error:
        case IdentityError(lacks_token=True):
            return DoctorStage.TOKEN
        case IdentityError():
            return DoctorStage.TOKEN_ENDPOINT if has_token_endpoint else DoctorStage.LOGIN
        case AccessDeniedError():
            return _DENIALS[error.denial]
        case ObjectUnusableError():
            return DoctorStage.RENDERING
        case _ if _is_forbidden_address(error):
            return DoctorStage.PARAMETERS
        case _ if error.stage is Stage.IDENTITY and has_token_endpoint:
            return DoctorStage.TOKEN_ENDPOINT
        case _:
            return _STAGES.get(error.stage, DoctorStage.PARAMETERS)


def _is_forbidden_address(error: KeyferryError) -> bool:
    """Return whether a SecretProviderClass names an address that it may not name."""
    return isinstance(error, ClassInvalidError) and error.stage is Stage.CONNECT


def _host(error: KeyferryError) -> str:
    return error.host if isinstance(error, ConnectionFailedError) else ""


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
                place = Place(_STAGES.get(seen.stage, DoctorStage.TLS), endpoint.name)
                if isinstance(seen, ClassInvalidError):
                    place = Place(DoctorStage.PARAMETERS, endpoint.name)
                self._break(endpoint.name, place, seen)
            elif seen is not None and seen.problem is not None:
                stage = _STAGES[seen.problem.stage]
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
            is_later = _ORDER.index(place.stage) > _ORDER.index(DoctorStage.TOKEN_ENDPOINT)
            answered = endpoint == source.token and place.stage is DoctorStage.TOKEN_ENDPOINT
            passed = endpoint == source.token and place.subject != endpoint.name
            if is_later or answered or (passed and place.stage in _NETWORK):
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
        host = _host(outcome) or source.vault.name
        place = place_of(outcome, entry.name, source, proxied=self._is_proxied(host))
        if known := self._broken.get(place.subject):
            return known
        if place.stage in _NETWORK:
            self._broken[place.subject] = place
        self._failures.setdefault(place, outcome)
        return place

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
        facts = _connection_facts(seen, certificate) if isinstance(seen, Inspection) else {}
        checks = []
        for stage in _NETWORK:
            place = Place(stage, endpoint.name)
            if place in self._failures:
                checks.append(self._failed(place, self._failures[place], facts.get(stage)))
            elif broken is not None and (
                broken.stage not in _NETWORK or _NETWORK.index(broken.stage) < _NETWORK.index(stage)
            ):
                checks.append(skipped(stage, endpoint.name, str(broken)))
            elif stage in facts:
                checks.append(ok(stage, endpoint.name, facts[stage]))
            elif seen is None:
                # Nothing to look at, such as a Unix socket: the request itself shows it.
                continue
            elif stage is DoctorStage.DNS:
                reason = "the development vault answers for this name"
                if isinstance(seen, Inspection) and seen.is_address:
                    reason = "it is an address"
                checks.append(skipped(stage, endpoint.name, reason))
            elif stage is DoctorStage.TLS:
                checks.append(skipped(stage, endpoint.name, "the address is plain http"))
        return checks

    def _token_endpoint(self, source: DiagnosedSource) -> list[Check]:
        if source.token is None:
            return []
        place = Place(DoctorStage.TOKEN_ENDPOINT, source.token.name)
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
        place = Place(DoctorStage.LOGIN, source.vault.name)
        facts = {"identity": source.identity, **({} if source.token else source.facts)}
        if error := self._failures.get(place):
            return [self._failed(place, error, facts)]
        cause = self._cause_before(DoctorStage.LOGIN, source.vault, source.token)
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
        return ok(DoctorStage.OBJECT, entry.name, _object_facts(outcome, entry))

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

    def _cause_before(
        self, stage: DoctorStage, vault: Endpoint, token: Endpoint | None
    ) -> Place | None:
        """Return a failure of an earlier stage that concerns a source, or None."""
        names = (token.name if token else "", vault.name)
        found = [
            place
            for place in self._failures
            if place.subject in names and _ORDER.index(place.stage) < _ORDER.index(stage)
        ]
        return min(found, key=lambda each: _ORDER.index(each.stage), default=None)


def _cannot_serve(greeting: Facts | KeyferryError) -> TypeGuard[KeyferryError]:
    """Return whether a vault answered that it cannot serve requests now."""
    return isinstance(greeting, KeyferryError) and greeting.stage is Stage.VAULT


def _is_before(place: Place) -> bool:
    """Return whether an entry failed before the vault decided about a permission."""
    return _ORDER.index(place.stage) < _ORDER.index(DoctorStage.PERMISSION)


def _connection_facts(
    seen: Inspection, certificate: CertificateSummary | None
) -> dict[DoctorStage, Facts]:
    """Return what a connection showed, by the stages that it passed or failed at."""
    facts: dict[DoctorStage, Facts] = {}
    if seen.addresses:
        of = {"of": "the proxy"} if seen.proxy else {}
        facts[DoctorStage.DNS] = {"addresses": ", ".join(seen.addresses), **of}
    facts[DoctorStage.PROXY] = {"proxy": seen.proxy or "none"}
    facts[DoctorStage.TCP] = {"peer": seen.peer} if seen.peer else {}
    if seen.is_https:
        facts[DoctorStage.TLS] = _tls_facts(seen, certificate)
    return facts


def _tls_facts(seen: Inspection, certificate: CertificateSummary | None) -> Facts:
    facts = {"version": seen.tls_version} if seen.tls_version else {}
    if certificate is not None:
        facts["issuer"] = certificate.issuer
        facts["names"] = ", ".join(certificate.names) or certificate.subject
        if certificate.not_after:
            facts["valid until"] = format_time(datetime.fromtimestamp(certificate.not_after, UTC))
    if not seen.is_verified:
        facts["verified"] = "no"
    return facts


def _object_facts(result: MountResult, entry: DiagnosedEntry) -> Facts:
    if result.missing:
        return {"optional": "missing", "reason": result.missing[0].reason}
    versions = {each.id: each.version for each in result.versions}
    if not entry.ids:
        return {"objects": str(len(versions))}
    facts = {}
    if version := versions.get(entry.ids[0]) or next(iter(versions.values()), ""):
        facts["version"] = version
    if result.expiries:
        expires_at = min(each.expires_at for each in result.expiries)
        facts["expires"] = format_time(datetime.fromtimestamp(expires_at, UTC))
    return facts


def format_time(moment: datetime) -> str:
    """Return a time as text, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
