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

{{- /* Labels that select the Pods of the driver. They cannot change in an upgrade. */ -}}
{{- define "keyferry.selector" -}}
app: secrets-store-csi-driver
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keyferry.serviceAccountName" -}}
{{- (.Values.serviceAccount).name | default "secrets-store-csi-driver" -}}
{{- end -}}

{{- /* true, or empty. helm upgrade --reuse-values does not know the defaults of values that a new chart adds. */ -}}
{{- define "keyferry.createsServiceAccount" -}}
{{- if dig "create" true (.Values.serviceAccount | default dict) }}true{{ end -}}
{{- end -}}

{{- define "keyferry.image" -}}
{{- with .Values.linux.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default (printf "v%s" $.Chart.AppVersion) }}{{ end }}
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
