"""Which Kubernetes API to talk to, and as whom.

Source: docs/reference/upstream-driver.md#kubernetes-api
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from keyferry.errors import StoreError
from keyferry.formats.kubernetes_yaml import KubernetesYamlError, parse_documents

if TYPE_CHECKING:
    from typing import Any

MAX_FILE_BYTES = 1024 * 1024


def load_config(
    kubeconfig: Path | None, *, service_account: Path = Path(SERVICE_ACCOUNT)
) -> SingleConfig:
    """The current context of `kubeconfig`; without one, the pod's account, else ~/.kube/config.

    Args:
        kubeconfig: the file, None when none is named.
        service_account: the folder in which kubelet puts the token of a pod.

    Raises:
        StoreError: the file cannot be read, or no Kubernetes API is configured.
    """
    if kubeconfig is not None:
        return _from_file(kubeconfig)
    if (service_account / "token").is_file():
        try:
            found = KubeConfig.from_service_account(service_account).get()
        except (ConfigError, KeyError) as error:
            raise StoreError(
                f"the service account in {service_account} is incomplete: {error}",
                "Check automountServiceAccountToken of the pod, or set --kubeconfig.",
            ) from error
        assert found is not None
        return found
    default = Path.home() / ".kube" / "config"
    if default.is_file():
        return _from_file(default)
    raise StoreError(
        "no Kubernetes API is configured: no --kubeconfig, no service account of a pod"
        f" and no {default}",
        "Run in a pod, set --kubeconfig, or set --manifests to use a folder of YAML.",
    )


def _from_file(path: Path) -> SingleConfig:
    try:
        documents = parse_documents(path.read_bytes(), max_bytes=MAX_FILE_BYTES)
        content: Any = documents[0].value if documents else None
        found = KubeConfig.from_dict(content, fname=path).get()
    except OSError as error:
        raise StoreError(
            f"failed to read kubeconfig {path}: {error.strerror}", "Check --kubeconfig."
        ) from error
    except KubernetesYamlError as error:
        raise StoreError(f"kubeconfig {path} {error}", f"Fix the YAML in {path}.") from None
    except (ConfigError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        # No chain: the file holds credentials.
        raise StoreError(
            f"kubeconfig {path} is not one ({type(error).__name__})",
            "It takes clusters, contexts, users and a current-context that names one of them.",
        ) from None
    assert found is not None
    return found
