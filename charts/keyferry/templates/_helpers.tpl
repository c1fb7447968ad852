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
{{- include "keyferry.labelsWith" (list . dict) -}}
{{- end -}}

{{- /* Labels of all objects with those of one, which replace others of the same name. Argument: context, labels. */ -}}
{{- define "keyferry.labelsWith" -}}
{{- $top := first . -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "keyferry.name" $top)
  "app.kubernetes.io/instance" $top.Release.Name
  "app.kubernetes.io/version" $top.Chart.AppVersion
  "app.kubernetes.io/managed-by" $top.Release.Service
  "helm.sh/chart" (printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_")
-}}
{{- toYaml (merge dict (last . | default dict) ($top.Values.commonLabels | default dict) $own) -}}
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
