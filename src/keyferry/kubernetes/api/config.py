"""Finds the address and the credentials of the Kubernetes API.

Source: docs/reference/upstream-driver.md#kubernetes-api
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from keyferry.errors import StoreError, excerpt
from keyferry.formats.kubernetes_yaml import KubernetesYamlError, parse_documents

if TYPE_CHECKING:
    from typing import Any

MAX_FILE_BYTES = 1024 * 1024


def load_config(
    kubeconfig: Path | None,
    *,
    context: str | None = None,
    service_account: Path = Path(SERVICE_ACCOUNT),
) -> SingleConfig:
    """Return a context of `kubeconfig`.

    Without one, the service account of the pod counts, else ~/.kube/config.

    Args:
        kubeconfig: the file of --kubeconfig, if given.
        context: its name; None for the current one.
        service_account: the directory in which kubelet places the token of a pod.

    Raises:
        StoreError: the file cannot be read, or no Kubernetes API is configured.
    """
    if kubeconfig is not None:
        return _from_file(kubeconfig, context)
    if (service_account / "token").is_file():
        try:
            config = KubeConfig.from_service_account(service_account).get()
        except (ConfigError, KeyError) as error:
            raise StoreError(
                f"the service account in {service_account} is incomplete: {error}",
                "Check automountServiceAccountToken of the pod, or set --kubeconfig.",
            ) from error
        assert config is not None
        return config
    default = Path.home() / ".kube" / "config"
    if default.is_file():
        return _from_file(default, context)
    raise StoreError(
        "no Kubernetes API is configured: no --kubeconfig, no service account of a pod"
        f" and no {default}",
        "Set --kubeconfig, or run in a pod. keyferry driver can also use a folder of YAML: "
        "--manifests.",
    )


def _from_file(path: Path, context: str | None) -> SingleConfig:
    try:
        documents = parse_documents(path.read_bytes(), max_bytes=MAX_FILE_BYTES)
        content: Any = documents[0].value if documents else None
        found = KubeConfig.from_dict(content, fname=path)
        if context is not None and context not in found.contexts:
            raise StoreError(
                f"{path} has no context {excerpt(context)!r}",
                f"Its contexts are: {', '.join(map(excerpt, found.contexts)) or 'none'}.",
            )
        config = found.get(context)
    except OSError as error:
        raise StoreError(
            f"failed to read kubeconfig {path}: {error.strerror}", "Check --kubeconfig."
        ) from error
    except KubernetesYamlError as error:
        raise StoreError(f"kubeconfig {path} {error}", error.remedy) from None
    except (ConfigError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        # Not chained: the file contains credentials.
        raise StoreError(
            f"{path} is not a valid kubeconfig ({type(error).__name__})",
            "It needs clusters, contexts, users and a current-context that names a context.",
        ) from None
    assert config is not None
    return config
