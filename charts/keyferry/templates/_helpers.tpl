{{- define "keyferry.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "keyferry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "keyferry.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "keyferry.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "keyferry.labels" -}}
app.kubernetes.io/name: {{ include "keyferry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "keyferry.image" -}}
{{- with .Values.linux.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default (printf "v%s" $.Chart.AppVersion) }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* Rejects invalid combinations of values before anything is installed. */ -}}
{{- define "keyferry.check" -}}
{{- if and .Values.syncSecret.enabled (not .Values.syncSecret.namespaces) (not .Values.syncSecret.clusterWide) -}}
{{- fail "syncSecret.enabled: no namespace is permitted: list the namespaces in syncSecret.namespaces, or set syncSecret.clusterWide=true to grant access to every Secret of the cluster, like upstream's chart." -}}
{{- end -}}
{{- if and .Values.syncSecret.namespaces .Values.syncSecret.clusterWide -}}
{{- fail "syncSecret.clusterWide grants access to every Secret of the cluster, so syncSecret.namespaces has no effect: remove syncSecret.namespaces or syncSecret.clusterWide." -}}
{{- end -}}
{{- if and .Values.versionHmac.create (not .Values.versionHmac.enabled) -}}
{{- fail "versionHmac.create has no effect without versionHmac.enabled=true: set versionHmac.enabled=true, or remove versionHmac.create." -}}
{{- end -}}
{{- if and (or .Values.syncSecret.namespaces .Values.syncSecret.clusterWide) (not .Values.syncSecret.enabled) -}}
{{- fail "syncSecret.namespaces and syncSecret.clusterWide have no effect without syncSecret.enabled: also set syncSecret.enabled=true." -}}
{{- end -}}
{{- include "keyferry.checkMoved" . -}}
{{- end -}}

{{- /* Rejects values of upstream's provider charts that would have no effect or a different effect here. */ -}}
{{- define "keyferry.checkMoved" -}}
{{- if index .Values "secrets-store-csi-driver" -}}
{{- fail "secrets-store-csi-driver: upstream's chart of the Azure provider nests the values of the driver; this chart has them at the top level: move the values below it there (docs/operations/migrate.md)." -}}
{{- end -}}
{{- if .Values.csi -}}
{{- fail "csi: a value of upstream's charts of Vault and OpenBao; here their provider runs in the driver: remove it, and move csi.extraArgs to linux.extraArgs (docs/operations/migrate.md)." -}}
{{- end -}}
{{- if hasKey .Values "constructPEMChain" -}}
{{- fail "constructPEMChain: a value of upstream's chart of the Azure provider: set linux.extraArgs: [--construct-pem-chain=false] instead, or remove it (default: true)." -}}
{{- end -}}
{{- if hasKey .Values "writeCertAndKeyInSeparateFiles" -}}
{{- fail "writeCertAndKeyInSeparateFiles: a value of upstream's chart of the Azure provider: set linux.extraArgs: [--write-cert-and-key-in-separate-files=true] instead, or remove it (default: false)." -}}
{{- end -}}
{{- if regexMatch "(provider-azure|csi-secrets-store/driver|vault-csi-provider|openbao-csi-provider)$" (.Values.linux.image.repository | default "") -}}
{{- fail (printf "linux.image.repository: %s is an upstream image, which does not support Keyferry's flags: remove linux.image, or name a Keyferry image." .Values.linux.image.repository) -}}
{{- end -}}
{{- end -}}

{{- /* Names of the Secrets with the HMAC keys of the built-in providers, one per line. */ -}}
{{- define "keyferry.versionHmacSecrets" -}}
{{- if .Values.versionHmac.enabled -}}
{{- range $provider, $name := .Values.versionHmac.secretNames -}}
{{- if has $provider $.Values.builtinProviders }}
{{ $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "keyferry.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
{{- end -}}
