"""The state of each vault, from the metrics of all processes that call it. [pure]

Counters are those since the start of each process.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.status_page.facts import Process
    from keyferry.telemetry.exposition import Sample

_OPEN, _CIRCUITS = "keyferry_vault_circuit_breaker_open", "keyferry_vault_open_circuits"
_BACKOFF, _QUEUE = "keyferry_vault_backoff_seconds", "keyferry_vault_queue_depth"
_TOKENS = "keyferry_vault_rate_limit_tokens"
_REQUESTS, _OBJECTS = "keyferry_vault_requests_total", "keyferry_object_requests_total"
_AGE, _BYTES = "keyferry_oldest_content_age_seconds", "keyferry_cache_bytes"
_EXPIRY, _LEADER = "keyferry_objects_near_expiry", "keyferry_secretsync_leader"
_UNVERIFIED = "keyferry_vault_tls_verification_disabled"
SAMPLE_NAMES = frozenset(
    (
        *(_OPEN, _CIRCUITS, _BACKOFF, _QUEUE, _TOKENS, _REQUESTS),
        *(_OBJECTS, _AGE, _BYTES, _EXPIRY, _LEADER, _UNVERIFIED),
    )
)
"""The metrics that the page reads."""
_HITS = frozenset(("hit", "coalesced", "revalidated", "negative_hit"))
_ONCE = _HITS | {"miss"}
"""Results of which each object request has exactly one."""


class VaultUse(Struct, frozen=True):
    """What one process knows of one vault.

    Attributes:
        process: the process.
        vault: its name in metrics.
        circuit_open: whether the circuit breaker is open for all tenants of the process.
        open_circuits: the number of tenants whose circuit breaker is open.
        backoff: seconds until the process may send requests again after it was throttled.
        queue: requests that wait for the rate or concurrency limit.
        tokens: requests that may be sent immediately; None if unknown.
        requests: sent, each attempt counted.
        throttled: of these, the throttled ones.
        failed: of these, the failed ones.
        objects: requested by mounts and refreshes.
        cached: of these, served without a request of their own.
        unverified: whether a SecretProviderClass disabled the verification of certificates.
    """

    process: Process
    vault: str
    circuit_open: bool
    open_circuits: int
    backoff: float
    queue: int
    tokens: float | None
    requests: int
    throttled: int
    failed: int
    objects: int
    cached: int
    unverified: bool


class VaultSummary(Struct, frozen=True):
    """What all processes know of one vault.

    Attributes:
        vault: its name in metrics.
        uses: by process.
    """

    vault: str
    uses: tuple[VaultUse, ...]

    @property
    def circuits_open(self) -> int:
        """The number of processes that send it no requests."""
        return sum(use.circuit_open for use in self.uses)

    @property
    def tenants_blocked(self) -> int:
        """The number of tenants whose circuit breaker is open, over all processes."""
        return sum(use.open_circuits for use in self.uses)

    @property
    def backoff(self) -> float:
        """The longest backoff of a process, in seconds."""
        return max((use.backoff for use in self.uses), default=0.0)

    @property
    def queue(self) -> int:
        """Waiting requests of all processes."""
        return sum(use.queue for use in self.uses)

    @property
    def tokens(self) -> float | None:
        """The fewest requests that a process may send immediately; None if unknown."""
        return min((use.tokens for use in self.uses if use.tokens is not None), default=None)

    @property
    def requests(self) -> int:
        """Requests of all processes."""
        return sum(use.requests for use in self.uses)

    @property
    def throttled(self) -> int:
        """Throttled requests of all processes."""
        return sum(use.throttled for use in self.uses)

    @property
    def failed(self) -> int:
        """Failed requests of all processes."""
        return sum(use.failed for use in self.uses)

    @property
    def hit_rate(self) -> float | None:
        """The part of object requests that caused no request to the vault; None without any."""
        objects = sum(use.objects for use in self.uses)
        return sum(use.cached for use in self.uses) / objects if objects else None

    @property
    def is_unverified(self) -> bool:
        """Whether a process does not verify its certificates for some SecretProviderClass."""
        return any(use.unverified for use in self.uses)

    @property
    def needs_attention(self) -> bool:
        """Whether requests are held back."""
        return bool(self.circuits_open or self.tenants_blocked or self.backoff)


def summarize_vaults(processes: Iterable[Process]) -> tuple[VaultSummary, ...]:
    """Return a summary for each vault: those that need attention first, then by name."""
    uses: dict[str, list[VaultUse]] = defaultdict(list)
    for process in processes:
        for vault, samples in _by_vault(process.samples).items():
            uses[vault].append(_use(process, vault, samples))
    found = [VaultSummary(vault, tuple(each)) for vault, each in uses.items()]
    return tuple(sorted(found, key=lambda each: (not each.needs_attention, each.vault)))


class ProcessState(Struct, frozen=True):
    """What a process reports of itself.

    Attributes:
        process: the process.
        oldest_content: seconds since the oldest content of a volume was fetched or revalidated;
            None if unknown.
        cache_bytes: size of its cache; None if unknown.
        expiring: objects in its volumes that expire soon.
        expired: objects in its volumes that have expired.
        leads: whether it is the leader of the SecretSync controller.
    """

    process: Process
    oldest_content: float | None
    cache_bytes: float | None
    expiring: int
    expired: int
    leads: bool


def process_states(processes: Iterable[Process]) -> tuple[ProcessState, ...]:
    """Return the state of each process: those with a problem first, then by component and node."""
    found = [_state(each) for each in processes]
    return tuple(sorted(found, key=_process_order))


def _process_order(state: ProcessState) -> tuple[bool, str, str, str]:
    process = state.process
    return not process.problem, process.component, process.node, process.pod


def _state(process: Process) -> ProcessState:
    return ProcessState(
        process,
        oldest_content=_first(process.samples, _AGE),
        cache_bytes=_first(process.samples, _BYTES),
        expiring=_sum(process.samples, _EXPIRY, "soon"),
        expired=_sum(process.samples, _EXPIRY, "expired"),
        leads=bool(_first(process.samples, _LEADER)),
    )


def _first(samples: Iterable[Sample], name: str) -> float | None:
    return next((each.value for each in samples if each.name == name), None)


def _sum(samples: Iterable[Sample], name: str, state: str) -> int:
    return int(sum(s.value for s in samples if s.name == name and s.labels.get("state") == state))


def _by_vault(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if vault := sample.labels.get("vault"):
            found[vault].append(sample)
    return found


def _use(process: Process, vault: str, samples: Sequence[Sample]) -> VaultUse:
    def gauge(name: str) -> float:
        return _first(samples, name) or 0.0

    def count(name: str, label: str, values: frozenset[str] | None = None) -> int:
        return int(
            sum(
                each.value
                for each in samples
                if each.name == name and (values is None or each.labels.get(label) in values)
            )
        )

    return VaultUse(
        process,
        vault,
        circuit_open=bool(gauge(_OPEN)),
        open_circuits=int(gauge(_CIRCUITS)),
        backoff=gauge(_BACKOFF),
        queue=int(gauge(_QUEUE)),
        tokens=_first(samples, _TOKENS),
        requests=count(_REQUESTS, "outcome"),
        throttled=count(_REQUESTS, "outcome", frozenset(("throttled",))),
        failed=count(_REQUESTS, "outcome", frozenset(("failed",))),
        objects=count(_OBJECTS, "result", _ONCE),
        cached=count(_OBJECTS, "result", _HITS),
        unverified=bool(gauge(_UNVERIFIED)),
    )
