"""A cluster as the status page reads it: some workloads are healthy, and some are not.

async with serving_page(("127.0.0.1", 0), ExampleSource(), server="example", ...) as port:
    ...
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from keyferry.inventory.objects import ObjectRow
from keyferry.inventory.syncs import parse_syncs
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from keyferry.kubernetes.syncs.objects import SecretSync
from keyferry.status_page.facts import ClassFacts, ClusterFacts, Process, ProcessFacts
from keyferry.status_page.vaults import SAMPLE_NAMES
from keyferry.telemetry.exposition import parse_samples
from tests.fakes.syncs import served, sync_manifest

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
CONTOSO, PARTNER = "contoso.vault.azure.net", "partner.vault.azure.net"
BAO = "bao.internal.example:8200"
DENIED = (
    "stage object: contoso.vault.azure.net denied access to secret stripe-key"
    " (403 ForbiddenByRbac). Assign the role Key Vault Secrets User on the vault to the identity"
    " 7d0d9e7c-52f1-4a0b-9b7f-3f6f0a5f9a11, and wait up to 10 minutes."
)


def before(minutes: float) -> datetime:
    """Return a time before `NOW`."""
    return NOW - timedelta(minutes=minutes)


def volume(
    pod: str,
    *objects: tuple[str, str],
    namespace: str = "shop",
    spc: str = "web",
    node: str = "node-1",
    age: float = 1,
    problem: str = "",
    environment: str = "",
) -> tuple[ObjectRow, ...]:
    """Return the rows of a volume."""
    return tuple(
        ObjectRow(namespace, pod, spc, node, id_, version, environment, None, before(age), problem)
        for id_, version in objects
    )


def sync(
    name: str,
    *objects: dict[str, str],
    namespace: str = "shop",
    spc: str = "web",
    status: str | None = "True",
    message: str = "",
    generation: int = 3,
    age: float = 7,
) -> SecretSync:
    """Return a SecretSync; without `status`, no controller has handled it."""
    condition = {
        "type": "Ready",
        "status": status,
        "reason": "SecretUpToDate" if status == "True" else "ProviderError",
        "message": message,
        "observedGeneration": generation,
    }
    manifest = served(
        sync_manifest(name, namespace, secretProviderClassName=spc),
        objects=list(objects),
        conditions=[condition] if status else [],
        **({"lastSuccessfulSyncTime": before(age).isoformat()} if objects else {}),
    )
    return parse_syncs([(UPSTREAM_GROUP, manifest)])[0]


def example_facts() -> ClusterFacts:
    """Return a cluster with each state."""
    db = ("secret/db-password", "8f1e4a7bd0c94c5d9a5b7e1f2c3d4e5f")
    old = ("secret/db-password", "11c2d3e4f5061728394a5b6c7d8e9f00")
    tls = ("cert/shop-tls", "5be0c8d21f4a4d6c8e9fa0b1c2d3e4f5")
    volumes = [
        volume("web-6d4cf56db6-4x8lq", db, tls),
        volume("web-6d4cf56db6-9kz2m", db, tls, node="node-2", age=2),
        volume("web-6d4cf56db6-t7c5w", old, tls, node="node-3", age=64),
        volume(
            "checkout-0", ("secret/stripe-key", "77aa90"), spc="payments", problem=DENIED, age=41
        ),
        volume(
            "orders-7f9c-x2", ("secret/data/orders", "0x5c1f"), namespace="orders", spc="orders"
        ),
        volume(
            "orders-7f9c-b8", ("secret/data/orders", "0x5c1f"), namespace="orders", spc="orders"
        ),
        volume(
            "grafana-0",
            ("secret/admin", "2"),
            namespace="monitoring",
            spc="grafana",
            environment="old",
        ),
    ]
    expiring = (NOW + timedelta(days=12)).isoformat()
    far = (NOW + timedelta(days=200)).isoformat()
    syncs = [
        sync("shop-tls", {"id": "cert/shop-tls", "version": tls[1], "expires": expiring}),
        sync("db-credentials", {"id": db[0], "version": db[1], "expires": far}),
        sync(
            "registry", {"id": "secret/registry", "version": "19"}, namespace="orders", spc="orders"
        ),
        sync("new-one", status=None, namespace="orders", spc="orders"),
        sync(
            "partner-api",
            {"id": "secret/partner", "version": "3"},
            namespace="orders",
            spc="partner",
            status="False",
            message="stage connect: partner.vault.azure.net has not responded for 26m. Check DNS.",
            age=26,
        ),
        *(
            sync(
                f"tenant-{number:02}",
                {"id": f"secret/tenant-{number:02}", "version": "1"},
                namespace="tenants",
                spc="tenants",
            )
            for number in range(1, 31)
        ),
    ]
    classes = [
        ClassFacts("shop", "web", "azure", (CONTOSO,)),
        ClassFacts("shop", "payments", "azure", (CONTOSO,)),
        ClassFacts("orders", "orders", "openbao", (BAO,)),
        ClassFacts("orders", "partner", "azure", (PARTNER,)),
        ClassFacts("monitoring", "grafana", "azure", (CONTOSO,)),
        ClassFacts("tenants", "tenants", "azure", (CONTOSO,)),
        ClassFacts("orders", "broken", problem="spec.parameters.objects: line 3 is not valid YAML"),
    ]
    return ClusterFacts(NOW, tuple(volumes), tuple(syncs), tuple(classes))


def exposition(vault: str = CONTOSO, *, opened: int = 0, throttled: int = 0) -> str:
    """Return the metrics of a driver."""
    requests = f'keyferry_vault_requests_total{{vault="{vault}",identity="workload"'
    objects = f'keyferry_object_requests_total{{vault="{vault}",identity="workload"'
    return f"""\
# HELP keyferry_vault_requests_total Requests
# TYPE keyferry_vault_requests_total counter
{requests},outcome="answered"}} 412.0
{requests},outcome="throttled"}} {throttled}.0
{requests},outcome="failed"}} {opened * 9}.0
# TYPE keyferry_object_requests_total counter
{objects},result="miss"}} 380.0
{objects},result="hit"}} 3100.0
{objects},result="revalidated"}} 5900.0
{objects},result="stale"}} 3.0
# TYPE keyferry_vault_queue_depth gauge
keyferry_vault_queue_depth{{vault="{vault}"}} {opened * 4}.0
# TYPE keyferry_vault_rate_limit_tokens gauge
keyferry_vault_rate_limit_tokens{{vault="{vault}"}} 1486.5
# TYPE keyferry_vault_backoff_seconds gauge
keyferry_vault_backoff_seconds{{vault="{vault}"}} {14.2 if throttled else 0.0}
# TYPE keyferry_vault_circuit_breaker_open gauge
keyferry_vault_circuit_breaker_open{{vault="{vault}"}} {opened}.0
# TYPE keyferry_vault_open_circuits gauge
keyferry_vault_open_circuits{{vault="{vault}"}} {opened}.0
# TYPE keyferry_cache_bytes gauge
keyferry_cache_bytes 48211.0
# TYPE keyferry_oldest_content_age_seconds gauge
keyferry_oldest_content_age_seconds 96.5
# TYPE keyferry_objects_near_expiry gauge
keyferry_objects_near_expiry{{os_type="linux",provider="azure",state="soon"}} {throttled and 2}.0
keyferry_objects_near_expiry{{os_type="linux",provider="azure",state="expired"}} 0.0
# TYPE python_info gauge
python_info{{version="3.11"}} 1.0
"""


def example_processes() -> ProcessFacts:
    """Return three drivers, one of which does not respond, and two replicas of the controller."""

    def process(component: str, pod: str, node: str, text: str) -> Process:
        return Process(component, pod, node, parse_samples(text, SAMPLE_NAMES))

    leader = exposition(PARTNER, opened=1) + "keyferry_secretsync_leader 1.0\n"
    return ProcessFacts(
        NOW,
        (
            process("driver", "keyferry-4fw2x", "node-1", exposition()),
            process("driver", "keyferry-m9s7d", "node-2", exposition(CONTOSO, throttled=12)),
            Process("driver", "keyferry-zq81c", "node-3", problem="timed out after 2 seconds"),
            process("driver", "keyferry-l0p3v", "node-4", exposition(BAO)),
            process("sync-controller", "keyferry-sync-7c9d-abcde", "node-1", leader),
            process(
                "sync-controller",
                "keyferry-sync-7c9d-fghij",
                "node-2",
                "keyferry_secretsync_leader 0.0\n",
            ),
        ),
    )


class ExampleSource:
    """Implements `StatusSource` with the example, and counts the reads.

    Args:
        cluster: the objects.
        processes: the metrics.
    """

    def __init__(
        self, cluster: ClusterFacts | None = None, processes: ProcessFacts | None = None
    ) -> None:
        self.cluster = cluster or example_facts()
        self.processes = processes or example_processes()
        self.reads: list[str] = []

    async def read_cluster(self) -> ClusterFacts:
        self.reads.append("cluster")
        return self.cluster

    async def read_processes(self) -> ProcessFacts:
        self.reads.append("processes")
        return self.processes
