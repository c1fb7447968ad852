"""Which value of the chart grants a permission that the SecretSync controller lacks. [pure]"""

from __future__ import annotations

_NAMESPACED = {"secrets", "serviceaccounts", "serviceaccounts/token"}


def sync_rbac_remedy(verb: str, resource: str, name: str) -> str:
    """Return how to grant a missing permission to the controller.

    Args:
        verb: as RBAC knows it.
        resource: the plural with its group.
        name: `namespace/name`, `in namespace`, `in/namespace` or `of all namespaces`.
    """
    if resource not in _NAMESPACED:
        return f"In the chart: rbac.install=true; or grant the controller {verb} on {resource}."
    namespace = name.removeprefix("in ").removeprefix("in/").partition("/")[0]
    if namespace == "of all namespaces":
        return "In the chart: secretSync.clusterWide=true, or name secretSync.namespaces."
    return (
        f"In the chart: add {namespace} to secretSync.namespaces, or set"
        " secretSync.clusterWide=true."
    )
