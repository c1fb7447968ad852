"""Derives the TLS server name of the AKS token proxy from the ID of the cluster. [pure]

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
    """Return the ID of the AKS cluster from the DNS names of its API server's certificate.

    The result is "" if no name contains it.
    """
    matches = (_AKS_API_SERVER_PATTERN.fullmatch(name) for name in names)
    return next((match[1] for match in matches if match), "")


def token_proxy_server_name(cluster: str) -> str:
    """Return the server name of the token proxy of the cluster with the ID `cluster`."""
    digest = sha256(f"identity-binding{cluster}".encode()).digest()
    label = b32hexencode(digest).decode().rstrip("=").lower()
    return f"a{label}.ests.aks"
