"""Values of the chart that are right or wrong, for the schema and for Helm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[3] / "charts" / "keyferry"

Values = dict[str, Any]

MISSPELT: dict[str, Values] = {
    "enableSecretRotaton": {"enableSecretRotaton": True},
    "rotationPollIntervall": {"rotationPollIntervall": "1m"},
    "tokenRequestz": {"tokenRequestz": []},
    "SyncSecret": {"SyncSecret": {"enabled": True}},
    "namespace": {"syncSecret": {"namespace": ["shop"]}},
    "ttls": {"cache": {"ttls": "5s"}},
    "tolerationz": {"linux": {"tolerationz": []}},
    "priorityClasName": {"linux": {"priorityClasName": "high"}},
    "tagg": {"linux": {"image": {"tagg": "v1"}}},
    "version": {"linux": {"image": {"version": "v1"}}},
    "resource": {"linux": {"driver": {"resource": {}}}},
    "limit": {"linux": {"driver": {"resources": {"limit": {"cpu": "1"}}}}},
    "ports": {"livenessProbe": {"ports": 9808}},
    "create_": {"serviceAccount": {"create_": True}},
    "anotations": {"serviceAccount": {"anotations": {}}},
    "audiance": {"tokenRequests": [{"audience": "a", "audiance": "b"}]},
    "opertor": {"linux": {"tolerations": [{"opertor": "Exists"}]}},
    "hostPaht": {"linux": {"volumes": [{"name": "a", "hostPaht": {"path": "/a"}}]}},
    "readonly": {"linux": {"volumeMounts": [{"name": "a", "mountPath": "/a", "readonly": True}]}},
    "nodeAfinity": {"linux": {"affinity": {"nodeAfinity": {}}}},
    "rollingUpdates": {"linux": {"updateStrategy": {"rollingUpdates": {}}}},
    "registarImage": {"linux": {"registarImage": {}}},
    "enabledd": {"podMonitor": {"enabledd": True}},
    "source_labels": {"podMonitor": {"relabelings": [{"source_labels": ["a"]}]}},
    "alerts": {"prometheusRule": {"alerts": False}},
    "label": {"grafanaDashboard": {"label": "a"}},
    "ingress": {"networkPolicy": {"ingress": []}},
    "enable": {"windows": {"enable": False}},
    "enabeld": {"driver": {"enabeld": False}},
    "replica": {"secretSync": {"replica": 2}},
    "allowedTypes": {"secretSync": {"admissionPolicies": {"allowedTypes": ["Opaque"]}}},
    "topologyKeys": {
        "secretSync": {
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "topologyKeys": [],
                }
            ]
        }
    },
    "applyPolicy": {"validatingAdmissionPolicies": {"applyPolicy": True}},
}
"""Values with a misspelt name, by the name."""

WRONG: list[tuple[str, Values]] = [
    ("/linux/image/pullPolicy", {"linux": {"image": {"pullPolicy": "Sometimes"}}}),
    ("/linux/image/pullPolicy", {"linux": {"image": {"pullPolicy": "ifnotpresent"}}}),
    ("/linux/image/digest", {"linux": {"image": {"digest": "abc"}}}),
    ("/linux/image/digest", {"linux": {"image": {"digest": "sha256:0a"}}}),
    ("/linux/image/digest", {"linux": {"image": {"digest": "v0.1.0"}}}),
    ("/linux/image/tag", {"linux": {"image": {"tag": 1.1}}}),
    ("/linux/image/repository", {"linux": {"image": {"repository": ""}}}),
    ("/linux/image", {"linux": {"image": "ghcr.io/keyferry/keyferry:v0.1.0"}}),
    ("/linux/tolerations", {"linux": {"tolerations": "all"}}),
    ("/linux/tolerations/0/effect", {"linux": {"tolerations": [{"effect": "noschedule"}]}}),
    ("/linux/nodeSelector/gpu", {"linux": {"nodeSelector": {"gpu": True}}}),
    ("/linux/podLabels/team", {"linux": {"podLabels": {"team": "a b"}}}),
    ("/linux/podAnnotations/scrape", {"linux": {"podAnnotations": {"scrape": True}}}),
    ("/linux/env", {"linux": {"env": {"HTTPS_PROXY": "http://proxy"}}}),
    ("/linux/env/0/value", {"linux": {"env": [{"name": "A", "value": 1}]}}),
    ("/linux/extraArgs", {"linux": {"extraArgs": "--v=2"}}),
    ("/linux/extraArgs/0", {"linux": {"extraArgs": ["v=2"]}}),
    ("/linux/metricsAddr", {"linux": {"metricsAddr": 8095}}),
    ("/linux/metricsAddr", {"linux": {"metricsAddr": "8095"}}),
    ("/linux/kubeletRootDir", {"linux": {"kubeletRootDir": "kubelet"}}),
    ("/linux/hostNetwork", {"linux": {"hostNetwork": "true"}}),
    ("/linux/dnsPolicy", {"linux": {"dnsPolicy": "ClusterFist"}}),
    ("/linux/revisionHistoryLimit", {"linux": {"revisionHistoryLimit": "three"}}),
    ("/linux/updateStrategy/type", {"linux": {"updateStrategy": {"type": "Recreate"}}}),
    (
        "/linux/updateStrategy/rollingUpdate/maxUnavailable",
        {"linux": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "ten"}}}},
    ),
    (
        "/linux/driver/resources/limits/memory",
        {"linux": {"driver": {"resources": {"limits": {"memory": "300MB"}}}}},
    ),
    (
        "/linux/driver/resources/requests/cpu",
        {"linux": {"driver": {"resources": {"requests": {"cpu": "half"}}}}},
    ),
    ("/linux/volumes/0", {"linux": {"volumes": [{"name": "tls"}]}}),
    ("/linux/volumeMounts/0", {"linux": {"volumeMounts": [{"name": "tls"}]}}),
    ("/linux/enabled", {"linux": {"enabled": "yes"}}),
    ("", {"linux": None}),
    ("", {"builtinProviders": None}),
    ("/linux", {"linux": {"image": None}}),
    ("/imagePullSecrets/0", {"imagePullSecrets": ["regcred"]}),
    ("/imagePullSecrets", {"imagePullSecrets": "regcred"}),
    ("/builtinProviders/0", {"builtinProviders": ["azrue"]}),
    ("/builtinProviders", {"builtinProviders": "azure"}),
    ("/startupTaint", {"startupTaint": 7}),
    ("/startupTaint", {"startupTaint": "a/b:NoSchedule"}),
    ("/providerHealthCheck", {"providerHealthCheck": "yes"}),
    ("/providerHealthCheckInterval", {"providerHealthCheckInterval": "2 minutes"}),
    ("/enableSecretRotation", {"enableSecretRotation": "true"}),
    ("/rotationPollInterval", {"rotationPollInterval": "often"}),
    ("/rotationPollInterval", {"rotationPollInterval": 120}),
    ("/secretGracePeriod", {"secretGracePeriod": "ten minutes"}),
    ("/secretGracePeriod", {"secretGracePeriod": 600}),
    ("/logVerbosity", {"logVerbosity": "debug"}),
    ("/logVerbosity", {"logVerbosity": -1}),
    ("/driverName", {"driverName": "a driver"}),
    ("/isolation", {"isolation": "container"}),
    ("/leaseDir", {"leaseDir": "leases"}),
    ("/maxCallRecvMsgSize", {"maxCallRecvMsgSize": "4Mi"}),
    ("/livenessProbe/port", {"livenessProbe": {"port": 98080}}),
    ("/cache/ttl", {"cache": {"ttl": "often"}}),
    ("/vaultLimits/burst", {"vaultLimits": {"burst": 0}}),
    ("/vault/allowedAddresses", {"vault": {"allowedAddresses": "vault.example.com"}}),
    ("/azure/allowedTenants/0", {"azure": {"allowedTenants": ["a tenant"]}}),
    ("/audit/log", {"audit": {"log": "audit.log"}}),
    ("/audit/maxBytes", {"audit": {"maxBytes": -1}}),
    ("/versionHmac/secretNames/vault", {"versionHmac": {"secretNames": {"vault": "A_b"}}}),
    ("/serviceAccount/name", {"serviceAccount": {"name": "Not A Name"}}),
    ("/serviceAccount/annotations/a", {"serviceAccount": {"annotations": {"a": True}}}),
    ("/syncSecret/namespaces", {"syncSecret": {"enabled": True, "namespaces": "shop"}}),
    ("/syncSecret/namespaces", {"syncSecret": {"enabled": True, "namespaces": ["a", "a"]}}),
    ("/syncSecret/namespaces/0", {"syncSecret": {"enabled": True, "namespaces": ["*"]}}),
    ("/syncSecret", {"syncSecret": True}),
    ("/driver", {"driver": False}),
    ("/driver/enabled", {"driver": {"enabled": "no"}}),
    ("/secretSync", {"secretSync": True}),
    ("/secretSync/namespaces/0", {"secretSync": {"namespaces": ["*"]}}),
    ("/secretSync/statusPage/port", {"secretSync": {"statusPage": {"port": 0}}}),
    ("/secretSync/statusPage", {"secretSync": {"statusPage": True}}),
    ("/secretSync/replicas", {"secretSync": {"replicas": "two"}}),
    ("/secretSync/controllerName", {"secretSync": {"controllerName": "A Name"}}),
    ("/secretSync/rotationPollInterval", {"secretSync": {"rotationPollInterval": "hourly"}}),
    ("/secretSync/tokenRequests/0", {"secretSync": {"tokenRequests": ["aud"]}}),
    (
        "/secretSync/tokenRequests/0/audience",
        {"secretSync": {"tokenRequests": [{"audience": "a,b"}]}},
    ),
    (
        "/secretSync/admissionPolicies/allowedSecretTypes",
        {"secretSync": {"admissionPolicies": {"allowedSecretTypes": "Opaque"}}},
    ),
    ("/secretSync/providerContainer/0", {"secretSync": {"providerContainer": [{"name": "a"}]}}),
    ("/providerContainer/0", {"providerContainer": [{"image": "a"}]}),
    ("/tokenRequestAudience", {"tokenRequestAudience": "aud"}),
    ("/tokenRequests/0", {"tokenRequests": ["aud"]}),
    ("/tokenRequests", {"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}),
    ("/tokenRequests/0", {"tokenRequests": [{"expirationSeconds": 600}]}),
    (
        "/tokenRequests/0/expirationSeconds",
        {"tokenRequests": [{"audience": "a", "expirationSeconds": 60}]},
    ),
    ("/commonLabels/a", {"commonLabels": {"a": True}}),
    ("/podMonitor/interval", {"podMonitor": {"interval": 30}}),
    ("/podMonitor/labels/release", {"podMonitor": {"labels": {"release": True}}}),
    ("/prometheusRule/disabledAlerts/0", {"prometheusRule": {"disabledAlerts": ["Keyferry"]}}),
    ("/grafanaDashboard/labels/a", {"grafanaDashboard": {"labels": {"a": 1}}}),
    (
        "/networkPolicy/egress/0/ports/0/protocol",
        {"networkPolicy": {"egress": [{"ports": [{"protocol": "tcp"}]}]}},
    ),
    ("/networkPolicy/metricsFrom/0", {"networkPolicy": {"metricsFrom": ["monitoring"]}}),
    ("/extraObjects", {"extraObjects": {"kind": "Namespace"}}),
]
"""Wrong values, with the place that the message names."""

MOVED: list[tuple[str, Values]] = [
    ("Did you mean syncSecret?", {"syncSecrets": {"enabled": True}}),
    ("Did you mean tokenRequests?", {"tokenRequest": []}),
    ("Did you mean linux.image?", {"image": {"tag": "v1"}}),
    ("Did you mean linux.image.digest?", {"linux": {"digest": "sha256:0a"}}),
    ("Did you mean linux.driver.resources?", {"linux": {"resources": {}}}),
    ("Did you mean linux.driver.resources or secretSync.resources?", {"resources": {}}),
    ("Did you mean linux.tolerations or secretSync.tolerations?", {"tolerations": []}),
    ("Did you mean linux.volumes or secretSync.extraVolumes?", {"extraVolumes": []}),
    ("Did you mean linux.podSecurityContext?", {"securityContext": {}}),
    ("its metrics are on port 8085", {"metricsPort": 8085}),
    ("Did you mean linux.env?", {"linux": {"extraEnv": []}}),
    ("Did you mean serviceAccount.name?", {"linux": {"serviceAccountName": "a"}}),
    ("Did you mean linux.metricsAddr", {"metricsAddr": "8898"}),
    ("Did you mean extraObjects?", {"extraManifests": []}),
    ("kubectl drain does not evict", {"podDisruptionBudget": {"enabled": True}}),
    ("helm install --skip-crds", {"crds": {"enabled": False}}),
    ("does not install a vault", {"server": {"enabled": False}}),
    ("does not install a vault", {"injector": {"enabled": False}}),
    ("move the values below it", {"secrets-store-csi-driver": {"enableSecretRotation": True}}),
    ("move csi.extraArgs to linux.extraArgs", {"csi": {"enabled": True}}),
    ("[--construct-pem-chain=false]", {"constructPEMChain": False}),
    ("--write-cert-and-key-in-separate-files=true", {"writeCertAndKeyInSeparateFiles": True}),
]
"""Values of other charts or places, with a part of the explanation."""

_RESOURCES = {"limits": {"cpu": "100m", "memory": "100Mi"}, "requests": {"cpu": "10m"}}
_IMAGE = {"repository": "registry.example.com/image", "tag": "v1", "pullPolicy": "IfNotPresent"}
_COMMON: Values = {
    "enabled": True,
    "affinity": {"nodeAffinity": {}},
    "driver": {"resources": _RESOURCES},
    "registrarImage": _IMAGE,
    "registrar": {"resources": _RESOURCES, "logVerbosity": 5},
    "livenessProbeImage": _IMAGE,
    "livenessProbe": {"resources": _RESOURCES},
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
    "nodeSelector": {},
    "tolerations": [{"operator": "Exists"}],
    "metricsAddr": ":8095",
    "env": [],
    "priorityClassName": "",
    "daemonsetAnnotations": {},
    "podAnnotations": {},
    "podLabels": {},
    "volumes": None,
    "volumeMounts": None,
}
UPSTREAM: dict[str, Values] = {
    "driver": {  # all values of the chart secrets-store-csi-driver 1.6.0, except linux.image
        "linux": {
            **_COMMON,
            "crds": {
                "enabled": True,
                "image": _IMAGE,
                "resources": {},
                "annotations": {},
                "podLabels": {},
            },
            "kubeletRootDir": "/var/lib/kubelet",
            "providersDir": "/var/run/secrets-store-csi-providers",
            "additionalProvidersDirs": ["/etc/kubernetes/secrets-store-csi-providers"],
        },
        "windows": {
            **_COMMON,
            "enabled": False,
            "image": _IMAGE,
            "kubeletRootDir": "C:\\var\\lib\\kubelet",
            "providersDir": "C:\\\\k\\\\secrets-store-csi-providers",
            "additionalProvidersDirs": None,
        },
        "logVerbosity": 0,
        "logFormatJSON": False,
        "livenessProbe": {"port": 9808, "logLevel": 2},
        "maxCallRecvMsgSize": 4194304,
        "rbac": {"install": True, "pspEnabled": False},
        "syncSecret": {"enabled": False},
        "enableSecretRotation": False,
        "rotationPollInterval": None,
        "providerHealthCheck": False,
        "providerHealthCheckInterval": "2m",
        "imagePullSecrets": [],
        "tokenRequests": [],
        "automountServiceAccountToken": True,
        "commonLabels": {},
    },
    "azure": {  # of the chart of the Azure provider 1.8.2, and what it sets for the driver
        "fullnameOverride": "secrets-store-csi-driver",
        "nameOverride": "",
        "filteredWatchSecret": True,
        "enableArcExtension": False,
        "enableSecretRotation": False,
        "rotationPollInterval": "2m",
        "tokenRequests": [
            {"audience": "api://AzureADTokenExchange"},
            {"audience": "api://AKSIdentityBinding"},
        ],
        "linux": {
            "privileged": False,
            "customUserAgent": "",
            "healthzPort": 8989,
            "healthzPath": "/healthz",
            "healthzTimeout": "5s",
            "dnsPolicy": "ClusterFirstWithHostNet",
            "volumes": [],
            "volumeMounts": [],
        },
        "windows": {"enabled": False, "resources": _RESOURCES, "healthzPort": 8989},
        "rbac": {"install": True, "pspEnabled": False},
    },
    "older driver": {
        "grpcSupportedProviders": "azure",
        "minimumProviderVersions": "",
        "linux": {"env": None, "tolerations": None, "affinity": None, "nodeSelector": None},
        "tokenRequests": None,
        "imagePullSecrets": None,
    },
    "sync controller": {  # of the chart secrets-store-sync-controller 0.0.4, with namespaces
        "driver": {"enabled": False},
        "secretSync": {"enabled": True, "clusterWide": True},
        "controllerName": "secrets-store-sync-controller-manager",
        "tokenRequestAudience": [{"audience": None}, {"audience": "api://AzureADTokenExchange"}],
        "logVerbosity": 5,
        "validatingAdmissionPolicies": {
            "applyPolicies": True,
            "allowedSecretTypes": ["Opaque", "kubernetes.io/tls"],
            "deniedSecretTypes": ["kubernetes.io/service-account-token"],
        },
        "providerContainer": [
            {
                "name": "provider",
                "image": "registry.example.com/provider:v1",
                "imagePullPolicy": "IfNotPresent",
                "args": ["--endpoint=unix:///provider/provider.sock"],
                "resources": _RESOURCES,
                "securityContext": {"allowPrivilegeEscalation": False},
                "volumeMounts": [{"mountPath": "/provider", "name": "providervol"}],
            }
        ],
    },
    "older sync controller": {
        "secretSync": {"enabled": True, "namespaces": ["shop"]},
        "tokenRequestAudience": [{"audience": None}],
        "providerContainer": None,
    },
    "parent chart": {"global": {"registry": "registry.example.com"}, "enabled": True},
}
"""Values of upstream's charts that stay accepted."""


def schema() -> Values:
    """The schema of the values."""
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def defaults() -> Values:
    """The default values."""
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def merged(base: Values, changes: Values) -> Values:
    """Merge values like Helm: maps recursively; null removes a default."""
    result = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        elif value is None and name in base:
            del result[name]
        else:
            result[name] = value
    return result
