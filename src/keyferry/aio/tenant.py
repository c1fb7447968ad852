"""The tenant that the current task works for, for limits that no tenant may use up alone."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_tenant: ContextVar[str] = ContextVar("tenant", default="")


def current_tenant() -> str:
    """Return the tenant of the current task; "" for work of the process itself."""
    return _tenant.get()


@contextmanager
def working_for(tenant: str) -> Iterator[None]:
    """Set the tenant for the block, and for the tasks that are started in it.

    Args:
        tenant: namespace of the pod; "" outside a cluster.
    """
    token = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(token)
