"""Names of the attributes that kubelet and pods add to those of a SecretProviderClass. [pure]"""

from __future__ import annotations

SPC_ATTRIBUTE = "secretProviderClass"
"""The attribute in which a pod names its SecretProviderClass."""
POD_NAME = "csi.storage.k8s.io/pod.name"
POD_NAMESPACE = "csi.storage.k8s.io/pod.namespace"
POD_UID = "csi.storage.k8s.io/pod.uid"
SERVICE_ACCOUNT = "csi.storage.k8s.io/serviceAccount.name"
SERVICE_ACCOUNT_TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"
