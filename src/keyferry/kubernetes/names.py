"""Rules for the names of Kubernetes objects; valid names are safe file names, too. [pure]

A namespace is a DNS-1123 label; other names are DNS-1123 subdomains.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

from __future__ import annotations

import re

from keyferry.errors import StoreError

DRIVER_NAME = "secrets-store.csi.k8s.io"
"""The default name of the CSI driver, as upstream."""
MAX_LABEL = 63
MAX_SUBDOMAIN = 253

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_PATTERN = re.compile(_LABEL)
_SUBDOMAIN_PATTERN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_DIGEST_LENGTH = 16


def namespace_problem(name: str) -> str | None:
    """Return why `name` is not a valid namespace ("is longer than ..."), or None."""
    if len(name) > MAX_LABEL:
        return f"is longer than {MAX_LABEL} characters"
    if not _LABEL_PATTERN.fullmatch(name):
        return "must consist of a-z, 0-9 and '-', and begin and end with a letter or digit"
    return None


def object_name_problem(name: str) -> str | None:
    """Return why `name` is not a valid name of a Secret or pod ("must ..."), or None."""
    if len(name) > MAX_SUBDOMAIN:
        return f"is longer than {MAX_SUBDOMAIN} characters"
    if not _SUBDOMAIN_PATTERN.fullmatch(name):
        return "must consist of a-z, 0-9, '-' and '.', and begin and end with a letter or digit"
    return None


def check_names(namespace: str, name: str, kind: str) -> None:
    """Check the names of an object before they become part of a URL or of a path.

    Args:
        namespace: its namespace.
        name: its name.
        kind: its kind, for the message.

    Raises:
        StoreError: Kubernetes would not accept one of them.
    """
    remedy = "Correct the name where the volume or the SecretProviderClass gives it."
    if problem := namespace_problem(namespace):
        problem = f"namespace {namespace[:80]!r} is not a valid Kubernetes name: it {problem}"
        raise StoreError(problem, remedy)
    if problem := object_name_problem(name):
        problem = f"{kind} {name[:80]!r} is not a valid Kubernetes name: it {problem}"
        raise StoreError(problem, remedy)


def shortened(name: str, *, limit: int = MAX_SUBDOMAIN) -> str:
    """Return `name`, or its beginning with a digest if it exceeds `limit` characters.

    Different names stay different, and a valid name stays valid.
    """
    if len(name) <= limit:
        return name
    import hashlib  # loads OpenSSL, which takes 4 ms; `keyferry lint` needs no digest

    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{name[: limit - len(digest) - 1].rstrip('-.')}-{digest}"


NamespacedName = tuple[str, str]
"""Namespace and name of a Secret."""
