{{- /* Rejects values that would have no effect or a different one, before anything is installed, with all problems at once. The schema has
rejected unknown names before. */ -}}
{{- define "keyferry.check" -}}
{{- $problems := concat (include "keyferry.combinations" . | fromYamlArray) (include "keyferry.moved" . | fromYamlArray) | compact -}}
{{- if eq (len $problems) 1 -}}
{{- fail (first $problems) -}}
{{- else if $problems -}}
{{- fail (printf "%d problems:\n* %s" (len $problems) ($problems | join "\n* ")) -}}
{{- end -}}
{{- end -}}

{{- /* Invalid combinations of values, as a YAML list. */ -}}
{{- define "keyferry.combinations" -}}
{{- if not (or (include "keyferry.driverEnabled" .) (include "keyferry.syncEnabled" .)) }}
- "driver.enabled and secretSync.enabled are both false, so nothing would be installed: set one of them to true."
{{- end }}
{{- include "keyferry.syncCombinations" . }}
{{- if include "keyferry.driverEnabled" . }}
{{- include "keyferry.driverCombinations" . }}
{{- else }}
{{- include "keyferry.valuesOfNoDriver" . }}
{{- end }}
{{- range $path, $labels := dict "commonLabels" .Values.commonLabels "linux.podLabels" .Values.linux.podLabels }}
{{- range list "app" "app.kubernetes.io/instance" }}
{{- if hasKey (default dict $labels) . }}
- {{ printf "%s: the label %s selects the Pods and cannot be changed: remove it." $path . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if regexMatch "(provider-azure|csi-secrets-store/driver|secrets-store/driver|vault-csi-provider|openbao-csi-provider|secrets-store-sync/controller)$" .Values.linux.image.repository }}
- {{ printf "linux.image.repository: %s is an upstream image, which does not support Keyferry's flags: remove linux.image, or name a Keyferry image." .Values.linux.image.repository | quote }}
{{- end }}
{{- include "keyferry.missingNamespaces" . }}
{{- include "keyferry.missingOperator" . }}
{{- end -}}

{{- /* Values of the driver that have no effect without it. */ -}}
{{- define "keyferry.valuesOfNoDriver" -}}
{{- range $name, $instead := dict "syncSecret" "list the namespaces in secretSync.namespaces" "enableSecretRotation" "remove it: the SecretSync controller always refreshes" "rotationPollInterval" "set secretSync.rotationPollInterval" "tokenRequests" "set secretSync.tokenRequests" "startupTaint" "remove it: the SecretSync controller uses no startup taint" }}
{{- $value := index $.Values $name }}
{{- if eq $name "syncSecret" }}{{ $value = $value.enabled }}{{ end }}
{{- if $value }}
- {{ printf "%s%s has no effect with driver.enabled=false: %s." $name (ternary ".enabled" "" (eq $name "syncSecret")) $instead | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Of the SecretSync controller. */ -}}
{{- define "keyferry.syncCombinations" -}}
{{- $values := .Values.secretSync | default dict }}
{{- $sync := include "keyferry.sync" . | fromYaml }}
{{- $aliases := include "keyferry.syncAliases" . | fromYaml }}
{{- if not $values.enabled }}
{{- if or $values.namespaces $values.clusterWide }}
- "secretSync.namespaces and secretSync.clusterWide have no effect without secretSync.enabled: also set secretSync.enabled=true."
{{- end }}
{{- range $name, $upstream := include "keyferry.syncAliasNames" . | fromYaml }}
{{- if hasKey $aliases $name }}
- {{ printf "%s: a value of upstream's chart of the SecretSync controller, which has no effect without secretSync.enabled: also set secretSync.enabled=true." $upstream | quote }}
{{- end }}
{{- end }}
{{- else }}
{{- if and (not $sync.namespaces) (not $sync.clusterWide) }}
- "secretSync.enabled: no namespace is permitted: list the namespaces in secretSync.namespaces, or set secretSync.clusterWide=true to grant access to every Secret of the cluster, like upstream's chart."
{{- end }}
{{- if and $sync.namespaces $sync.clusterWide }}
- "secretSync.clusterWide grants access to every Secret of the cluster, so secretSync.namespaces has no effect: remove secretSync.namespaces or secretSync.clusterWide."
{{- end }}
{{- if lt (int $sync.replicas) 1 }}
- {{ printf "secretSync.replicas: %d Pods would sync nothing: set 1 or more, or secretSync.enabled=false." (int $sync.replicas) | quote }}
{{- end }}
{{- if not (has $sync.crd (list "auto" "keep" "skip")) }}
- {{ printf "secretSync.crd: %q is not a mode: set auto, keep or skip." $sync.crd | squote }}
{{- end }}
{{- if not (has $sync.tokenBinding (list "none" "node")) }}
- {{ printf "secretSync.tokenBinding: tokens cannot be bound to %q: set none or node." $sync.tokenBinding | squote }}
{{- end }}
{{- if has "kubernetes.io/service-account-token" $sync.admissionPolicies.allowedSecretTypes }}
- "secretSync.admissionPolicies.allowedSecretTypes: Kubernetes fills Secrets of the type kubernetes.io/service-account-token with a token: remove the type."
{{- end }}
{{- if and $sync.admissionPolicies.enabled (not $sync.admissionPolicies.allowedSecretTypes) }}
- "secretSync.admissionPolicies.allowedSecretTypes: without a type, every Secret is refused: list types, such as Opaque, or set secretSync.admissionPolicies.enabled=false."
{{- end }}
{{- $port := include "keyferry.statusPagePort" . | trim }}
{{- if has $port (list "8081" "8085") }}
- {{ printf "secretSync.statusPage.port: the controller already uses the port %s for probes or metrics: set another one, such as 8090." $port | quote }}
{{- end }}
{{- range $sync.providerContainer }}
{{- $mounted := false }}
{{- range .volumeMounts }}{{ if eq (toString .name) "providervol" }}{{ $mounted = true }}{{ end }}{{ end }}
{{- if not $mounted }}
- {{ printf "secretSync.providerContainer: the controller cannot see the socket of the container %s: create it in /provider, and add a volumeMount with the name providervol and the mountPath /provider." .name | quote }}
{{- end }}
{{- end }}
{{- range $name, $upstream := include "keyferry.syncAliasNames" . | fromYaml }}
{{- $policy := has $name (list "applyPolicies" "allowedSecretTypes") }}
{{- $own := $policy | ternary (ternary "enabled" $name (eq $name "applyPolicies")) $name }}
{{- $path := printf "secretSync.%s%s" (ternary "admissionPolicies." "" $policy) $own }}
{{- $defaults := include "keyferry.syncDefaults" $ | fromYaml }}
{{- $default := get ($policy | ternary $defaults.admissionPolicies $defaults) $own }}
{{- $value := get ($policy | ternary ($values.admissionPolicies | default dict) $values) $own }}
{{- if and (hasKey $aliases $name) (not (kindIs "invalid" $value)) (ne (toJson $value) (toJson $default)) (ne (toJson $value) (toJson (get $aliases $name))) }}
- {{ printf "%s and %s are both set and differ: remove %s, which is the name in upstream's chart." $path $upstream $upstream | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Names in upstream's chart, by those of keyferry.syncAliases. */ -}}
{{- define "keyferry.syncAliasNames" -}}
allowedSecretTypes: validatingAdmissionPolicies.allowedSecretTypes
applyPolicies: validatingAdmissionPolicies.applyPolicies
controllerName: controllerName
providerContainer: providerContainer
tokenRequests: tokenRequestAudience
{{- end -}}

{{- /* Of the driver. */ -}}
{{- define "keyferry.driverCombinations" -}}
{{- if and .Values.syncSecret.enabled (not .Values.syncSecret.namespaces) (not .Values.syncSecret.clusterWide) }}
- "syncSecret.enabled: no namespace is permitted: list the namespaces in syncSecret.namespaces, or set syncSecret.clusterWide=true to grant access to every Secret of the cluster, like upstream's chart."
{{- end }}
{{- if and .Values.syncSecret.namespaces .Values.syncSecret.clusterWide }}
- "syncSecret.clusterWide grants access to every Secret of the cluster, so syncSecret.namespaces has no effect: remove syncSecret.namespaces or syncSecret.clusterWide."
{{- end }}
{{- if and (or .Values.syncSecret.namespaces .Values.syncSecret.clusterWide) (not .Values.syncSecret.enabled) }}
- "syncSecret.namespaces and syncSecret.clusterWide have no effect without syncSecret.enabled: also set syncSecret.enabled=true."
{{- end }}
{{- if and .Values.versionHmac.create (not .Values.versionHmac.enabled) }}
- "versionHmac.create has no effect without versionHmac.enabled=true: set versionHmac.enabled=true, or remove versionHmac.create."
{{- end }}
{{- if and (not (include "keyferry.createsServiceAccount" .)) (not (.Values.serviceAccount).name) }}
- "serviceAccount.create=false: set serviceAccount.name to the service account that the driver uses."
{{- end }}
{{- if and (eq (default "" .Values.linux.dnsPolicy) "None") (not .Values.linux.dnsConfig) }}
- "linux.dnsPolicy: None needs DNS servers: set linux.dnsConfig.nameservers."
{{- end }}
{{- if eq (.Values.linux.metricsAddr | splitList ":" | last) (toString (int .Values.livenessProbe.port)) }}
- {{ printf "livenessProbe.port: linux.metricsAddr has the same port, %d: set another one." (int .Values.livenessProbe.port) | quote }}
{{- end }}
{{- if and (.Values.networkPolicy).enabled .Values.linux.hostNetwork }}
- "networkPolicy.enabled: a NetworkPolicy does not apply to Pods that use the network of the node: set linux.hostNetwork=false or networkPolicy.enabled=false."
{{- end }}
{{- if and (.Values.podMonitor).enabled (regexMatch "^(127\\.|localhost:|\\[::1\\]:)" .Values.linux.metricsAddr) }}
- {{ printf "podMonitor.enabled: Prometheus cannot reach the loopback address of linux.metricsAddr=%s: set another one, such as :8095." .Values.linux.metricsAddr | quote }}
{{- end }}
{{- include "keyferry.podSecurity" . }}
{{- end -}}

{{- /* Otherwise the DaemonSet would create no Pod, and only its events would say why. */ -}}
{{- define "keyferry.podSecurity" -}}
{{- $name := .Release.Namespace }}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" (lookup "v1" "Namespace" "" $name) }}
{{- if and .Values.linux.enabled (ne $level "privileged") }}
- {{ printf "The namespace %s enforces Pod Security %s, which refuses the privileged Pods of the driver: use another namespace, or permit them (kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged)." $name $level $name | quote }}
{{- end }}
{{- end -}}

{{- /* Helm would say only "no matches for kind". Without a cluster (helm template) nothing is known. */ -}}
{{- define "keyferry.missingOperator" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" }}
{{- range $value, $kind := dict "podMonitor" "PodMonitor" "prometheusRule" "PrometheusRule" }}
{{- if and ((index $.Values $value) | default dict).enabled (not ($.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) }}
- {{ printf "%s.enabled: the cluster has no %s: install the Prometheus Operator first, or set %s.enabled=false." $value $kind $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Helm would fail halfway, with a message that does not name the value. Without a cluster (helm template) nothing is known. */ -}}
{{- define "keyferry.missingNamespaces" -}}
{{- if and .Values.rbac.install (lookup "v1" "Namespace" "" "kube-system") }}
{{- $made := list .Release.Namespace }}
{{- range .Values.extraObjects }}
{{- if and (kindIs "map" .) (eq (toString .kind) "Namespace") }}{{ $made = append $made (dig "metadata" "name" "" .) }}{{ end }}
{{- end }}
{{- range $value, $namespaces := dict "syncSecret" .Values.syncSecret.namespaces "secretSync" (.Values.secretSync).namespaces }}
{{- range $namespaces }}
{{- if and (not (has . $made)) (not (lookup "v1" "Namespace" "" .)) }}
- {{ printf "%s.namespaces: the namespace %s does not exist: create it first (kubectl create namespace %s), or remove it from the list." $value . . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Values of upstream's provider charts and of other charts whose place or name differs here, as a YAML list. The schema permits their
names only for these explanations. */ -}}
{{- define "keyferry.moved" -}}
{{- if index .Values "secrets-store-csi-driver" }}
- "secrets-store-csi-driver: upstream's chart of the Azure provider nests the values of the driver; this chart has them at the top level: move the values below it there (docs/operations/migrate.md)."
{{- end }}
{{- if .Values.csi }}
- "csi: a value of upstream's charts of Vault and OpenBao; here their provider runs in the driver: remove it, and move csi.extraArgs to linux.extraArgs (docs/operations/migrate.md)."
{{- end }}
{{- range list "server" "injector" "ui" "serverTelemetry" }}
{{- if hasKey $.Values . }}
- {{ printf "%s: a value of the charts of Vault and OpenBao; this chart does not install a vault: remove it." . | quote }}
{{- end }}
{{- end }}
{{- if hasKey .Values "constructPEMChain" }}
- "constructPEMChain: a value of upstream's chart of the Azure provider: set linux.extraArgs: [--construct-pem-chain=false] instead, or remove it (default: true)."
{{- end }}
{{- if hasKey .Values "writeCertAndKeyInSeparateFiles" }}
- "writeCertAndKeyInSeparateFiles: a value of upstream's chart of the Azure provider: set linux.extraArgs: [--write-cert-and-key-in-separate-files=true] instead, or remove it (default: false)."
{{- end }}
{{- range list "crds" "installCRDs" }}
{{- if hasKey $.Values . }}
- {{ printf "%s: Helm installs the directory crds of this chart once: use helm install --skip-crds to leave the CRDs out (docs/operations/install.md)." . | quote }}
{{- end }}
{{- end }}
{{- if hasKey .Values "metricsPort" }}
- "metricsPort: a value of upstream's chart of the SecretSync controller; here its metrics are on port 8085, and those of the driver at linux.metricsAddr: remove it."
{{- end }}
{{- if hasKey .Values "podDisruptionBudget" }}
- "podDisruptionBudget: remove it: kubectl drain does not evict the Pods of a DaemonSet, and a budget would not limit updates. linux.updateStrategy does (docs/operations/install.md)."
{{- end }}
{{- range $path, $instead := include "keyferry.instead" . | fromYaml }}
{{- $parts := splitList "." $path }}
{{- if hasKey (ternary $.Values.linux $.Values (eq (first $parts) "linux")) (last $parts) }}
- {{ printf "%s: this chart has no such value. Did you mean %s?" $path $instead | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "keyferry.instead" -}}
{{- $sync := list "tolerations" "nodeSelector" "affinity" "priorityClassName" "extraArgs" "podAnnotations" }}
{{- range list "tolerations" "nodeSelector" "affinity" "priorityClassName" "env" "extraArgs" "volumes" "volumeMounts" "podAnnotations" "podLabels" "daemonsetAnnotations" "updateStrategy" "hostNetwork" "dnsPolicy" "dnsConfig" "podSecurityContext" "revisionHistoryLimit" "kubeletRootDir" "providersDir" "additionalProvidersDirs" "image" }}
{{ . }}: linux.{{ . }}{{ if has . $sync }} or secretSync.{{ . }}{{ end }}
{{- end }}
{{- range list "digest" "pullPolicy" "repository" "tag" }}
linux.{{ . }}: linux.image.{{ . }}
{{- end }}
{{- range $name, $instead := dict "resources" "driver.resources" "extraEnv" "env" "extraVolumes" "volumes" "extraVolumeMounts" "volumeMounts" "securityContext" "podSecurityContext" }}
{{ $name }}: linux.{{ $instead }}{{ if ne $name "securityContext" }} or secretSync.{{ $name }}{{ end }}
linux.{{ $name }}: linux.{{ $instead }}
{{- end }}
extraManifests: extraObjects
linux.annotations: linux.podAnnotations or linux.daemonsetAnnotations
linux.extraEnvironmentVars: linux.env
linux.imagePullSecrets: imagePullSecrets
linux.labels: linux.podLabels
linux.priorityClass: linux.priorityClassName
linux.serviceAccount: serviceAccount
linux.serviceAccountName: serviceAccount.name
logLevel: logVerbosity
metrics: podMonitor
metricsAddr: linux.metricsAddr, such as ":8095"
providers: builtinProviders
rotation: enableSecretRotation and rotationPollInterval
secretRotation: enableSecretRotation
serviceAccountName: serviceAccount.name
serviceMonitor: podMonitor
syncSecrets: syncSecret
tokenRequest: tokenRequests
{{- end -}}

{{- /* Values of upstream's charts that are set and have no effect here, as a YAML list, for the notes after an installation. */ -}}
{{- define "keyferry.ignored" -}}
{{- range $name, $why := dict "registrarImage" "Keyferry registers itself" "registrar" "Keyferry registers itself" "livenessProbeImage" "Keyferry serves the probes" "livenessProbe" "Keyferry serves the probes" "crds" "Helm installs the CRDs, without a job" "privileged" "the driver is privileged" "customUserAgent" "Keyferry sends its own" "healthzPort" "see livenessProbe.port" "healthzPath" "it is /healthz" "healthzTimeout" "it is 10 seconds" }}
{{- if hasKey $.Values.linux $name }}
- {{ printf "linux.%s: %s" $name $why | quote }}
{{- end }}
{{- end }}
{{- if dig "enabled" false (.Values.windows | default dict) }}
- "windows: Keyferry runs on Linux nodes only. Pods on Windows nodes cannot mount volumes of this driver"
{{- end }}
{{- if .Values.rbac.pspEnabled }}
- "rbac.pspEnabled: Kubernetes has no PodSecurityPolicies since 1.25"
{{- end }}
{{- if hasKey .Values.livenessProbe "logLevel" }}
- "livenessProbe.logLevel: Keyferry serves the probes"
{{- end }}
{{- if hasKey .Values "filteredWatchSecret" }}
- "filteredWatchSecret: the driver watches only the Secrets that it manages"
{{- end }}
{{- range list "grpcSupportedProviders" "minimumProviderVersions" }}
{{- if hasKey $.Values . }}
- {{ printf "%s: upstream has no such value since version 1.0" . | quote }}
{{- end }}
{{- end }}
{{- if .Values.enableArcExtension }}
- "enableArcExtension: Keyferry does not include the monitoring of the Azure Arc extension"
{{- end }}
{{- end -}}
