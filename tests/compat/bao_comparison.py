"""The Vault provider of Keyferry behind the upstream driver, behind Keyferry's, and built in.

The upstream provider cannot be built here (docs/reference/compatibility-vault.md), so the one
behind the upstream driver is what the other two are compared with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes

from tests.compat.bao_contents import BaoContents, fill_bao
from tests.compat.bao_table import bao_cases
from tests.compat.cases import Tokens
from tests.compat.comparison import ROTATION_SECONDS, SideBySide, furnish
from tests.compat.stacks import ALL_KEYFERRY, KEYFERRY_PARTS, KEYFERRY_PROVIDER, Ground, start_stack
from tests.compat.upstream import built_upstream
from tests.e2e.children import ending_children
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.vault.postgres import Postgres, running_postgres
from tests.e2e.vault.server import VaultServer, running_server
from tests.e2e.vault.tokens import TokenSigner
from tests.fakes.mounts import unmount_below

BAO_PAIRINGS = (KEYFERRY_PROVIDER, KEYFERRY_PARTS, ALL_KEYFERRY)
PRODUCTS = ("vault", "openbao")


@dataclass
class BaoComparison(SideBySide):
    """The stacks that read from OpenBao.

    Attributes:
        bao: what all of them read.
        contents: what was in it at first.
        postgres: where its database engine makes users.
    """

    bao: VaultServer = field(kw_only=True)
    contents: BaoContents = field(kw_only=True)
    postgres: Postgres = field(kw_only=True)


@asynccontextmanager
async def running_bao_comparison(folder: Path) -> AsyncIterator[BaoComparison]:
    """The stacks, and what became of all cases of the table."""
    try:
        async with (
            running_api_server(folder / "api") as api,
            running_server(folder / "bao") as bao,
            running_postgres() as postgres,
            ending_children(folder / "output") as children,
        ):
            await furnish(api, BAO_PAIRINGS)
            contents = await fill_bao(bao, api, postgres)
            ground = Ground(
                children,
                folder,
                kubeconfig=api.kubeconfig,
                ca=bao.ca,
                upstream=built_upstream(),
                providers=PRODUCTS,
                driver_flags=(
                    "--enable-secret-rotation",
                    f"--rotation-poll-interval={ROTATION_SECONDS}s",
                ),
                # The provider protocol does not distinguish a refresh from a first mount.
                keyferry_provider_flags=(f"--cache-ttl={ROTATION_SECONDS * 500}ms",),
            )
            share_version_keys(folder)
            stacks = {pairing: await start_stack(pairing, ground) for pairing in BAO_PAIRINGS}
            compared = BaoComparison(
                *(api, await tokens_of(api), stacks), bao=bao, contents=contents, postgres=postgres
            )
            try:
                await compared.play(bao_cases(contents))
                yield compared
            finally:
                for stack in stacks.values():
                    await stack.driver.close()
    finally:
        unmount_below(folder)


def share_version_keys(folder: Path) -> None:
    """Give all stacks the same HMAC key for object versions, like the nodes of a cluster."""
    keys = {product: token_bytes(32) for product in PRODUCTS}
    for pairing in BAO_PAIRINGS:
        sockets = folder / pairing.name if pairing.built_in else folder / pairing.name / "providers"
        sockets.mkdir(parents=True)
        for product, key in keys.items():
            path = sockets / f"{product}-hmac.key"
            path.touch(mode=0o600)
            path.write_bytes(key)


async def tokens_of(api: ApiServer) -> Tokens:
    """What kubelet would hand over for the service account `web` of each stack."""
    signer, uids = TokenSigner.of_cluster(api), {}
    for pairing in BAO_PAIRINGS:
        account = await api.kubectl.get("serviceaccounts/web", f"--namespace={pairing.name}")
        uids[pairing.name] = account["metadata"]["uid"]

    def token(namespace: str, audience: str) -> str:
        return signer.kubelet_json(
            namespace, "web", audience=audience, seconds=3600, uid=uids[namespace]
        )

    return token
