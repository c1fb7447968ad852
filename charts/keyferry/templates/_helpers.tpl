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

{{- /* What cannot be meant is refused before anything is installed. */ -}}
{{- define "keyferry.check" -}}
{{- if and .Values.syncSecret.enabled (not .Values.syncSecret.namespaces) (not .Values.syncSecret.clusterWide) -}}
{{- fail "syncSecret.enabled: say where Secrets may be written: list the namespaces in syncSecret.namespaces, or set syncSecret.clusterWide=true for a right to every Secret of the cluster, as the upstream chart gives." -}}
{{- end -}}
{{- if and .Values.syncSecret.namespaces .Values.syncSecret.clusterWide -}}
{{- fail "syncSecret.clusterWide gives a right to every Secret of the cluster, whatever syncSecret.namespaces lists: leave out syncSecret.namespaces, or syncSecret.clusterWide." -}}
{{- end -}}
{{- if and .Values.versionKeys.create (not .Values.versionKeys.enabled) -}}
{{- fail "versionKeys.create has no effect without versionKeys.enabled=true: leave out one of them." -}}
{{- end -}}
{{- if and (or .Values.syncSecret.namespaces .Values.syncSecret.clusterWide) (not .Values.syncSecret.enabled) -}}
{{- fail "syncSecret.namespaces and syncSecret.clusterWide have no effect: set syncSecret.enabled=true too." -}}
{{- end -}}
{{- include "keyferry.checkMoved" . -}}
{{- end -}}

{{- /* Values of the charts of the original providers would have no effect here, or another one. */ -}}
{{- define "keyferry.checkMoved" -}}
{{- if index .Values "secrets-store-csi-driver" -}}
{{- fail "secrets-store-csi-driver: this is where the chart of the Azure provider has the values of the driver; here they are at the top: move what is below it there (docs/migrate.md)." -}}
{{- end -}}
{{- if .Values.csi -}}
{{- fail "csi: this is a value of the charts of Vault and OpenBao, whose provider runs in the driver here: leave it out, and write csi.extraArgs to linux.extraArgs (docs/migrate.md)." -}}
{{- end -}}
{{- if hasKey .Values "constructPEMChain" -}}
{{- fail "constructPEMChain: a value of the chart of the Azure provider; here write linux.extraArgs: [--construct-pem-chain=false] or leave it out, for true is the default." -}}
{{- end -}}
{{- if hasKey .Values "writeCertAndKeyInSeparateFiles" -}}
{{- fail "writeCertAndKeyInSeparateFiles: a value of the chart of the Azure provider; here write linux.extraArgs: [--write-cert-and-key-in-separate-files=true] or leave it out, for false is the default." -}}
{{- end -}}
{{- if regexMatch "(provider-azure|csi-secrets-store/driver|vault-csi-provider|openbao-csi-provider)$" (.Values.linux.image.repository | default "") -}}
{{- fail (printf "linux.image.repository: %s is the image of an original, which does not know the flags of Keyferry: leave linux.image out, or name an image of Keyferry." .Values.linux.image.repository) -}}
{{- end -}}
{{- end -}}

{{- /* The Secrets with the keys of versions, of the providers that are built in, one a line. */ -}}
{{- define "keyferry.versionKeys" -}}
{{- if .Values.versionKeys.enabled -}}
{{- range $provider, $name := .Values.versionKeys.secretNames -}}
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
