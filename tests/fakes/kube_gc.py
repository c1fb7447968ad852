"""The garbage collector of Kubernetes, over the objects of an emulated API.

async with collecting_garbage(api):
    api.remove("replicasets", "shop", "web-5d8")   # Secrets without another owner are deleted
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fakes.kube_api import KubeApiServer

DEPENDENTS = {"secrets", "secretproviderclasspodstatuses"}


@asynccontextmanager
async def collecting_garbage(api: KubeApiServer) -> AsyncIterator[None]:
    """Delete objects whose owners are all deleted while the block runs."""
    task = asyncio.create_task(_run(api))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _run(api: KubeApiServer) -> None:
    while True:
        changed = api.objects.changed
        collect_garbage(api)
        await changed.wait()


def collect_garbage(api: KubeApiServer) -> None:
    """Delete objects without a live owner, and owner references to deleted objects."""
    for plural, namespace, name in list(api.objects.stored):
        if plural not in DEPENDENTS:
            continue
        manifest = api.get(plural, namespace, name)
        assert manifest is not None
        uids = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])}
        live = uids & {stored.values[("metadata", "uid")] for stored in api.objects.stored.values()}
        if uids and not live:
            api.remove(plural, namespace, name)
        elif uids - live:
            references = [{"$patch": "delete", "uid": uid} for uid in sorted(uids - live)]
            patch = {"metadata": {"ownerReferences": references}}
            api.objects.merge((plural, namespace, name), patch, "garbage-collector")
