"""The TLS server name of the token proxy of AKS, derived from the id of the cluster. [pure]

Source: docs/reference/upstream-azure-provider.md#identity-binding
"""

from __future__ import annotations

import re
from base64 import b32hexencode
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_AKS_API_SERVER_PATTERN = re.compile(r"hcp-kubernetes\.([^.]+)\.svc\.cluster\.local")


def cluster_id(names: Iterable[str]) -> str:
    """The id of the AKS cluster, out of the names in the certificate of its API server.

    "" where no name tells it.
    """
    found = (_AKS_API_SERVER_PATTERN.fullmatch(name) for name in names)
    return next((match[1] for match in found if match), "")


def token_proxy_server_name(cluster: str) -> str:
    """The server name of the token proxy of the cluster with this id."""
    digest = sha256(f"identity-binding{cluster}".encode()).digest()
    label = b32hexencode(digest).decode().rstrip("=").lower()
    return f"a{label}.ests.aks"
