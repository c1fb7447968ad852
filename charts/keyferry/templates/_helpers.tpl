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

{{- /* true, or empty. */ -}}
{{- define "keyferry.driverEnabled" -}}
{{- if dig "enabled" true (.Values.driver | default dict) }}true{{ end -}}
{{- end -}}

{{- /* Flags of the driver and of the SecretSync controller. */ -}}
{{- define "keyferry.resilienceArgs" -}}
{{- with .Values.cache.ttl }}
- --cache-ttl={{ . }}
{{- end }}
{{- with .Values.cache.negativeTTL }}
- --negative-cache-ttl={{ . }}
{{- end }}
{{- with .Values.cache.maxBytes }}
- --cache-max-bytes={{ int . }}
{{- end }}
{{- if not .Values.cache.listRevalidation }}
- --list-revalidation=false
{{- end }}
{{- if ne (toString .Values.vaultLimits.qps) "" }}
- --vault-qps={{ int .Values.vaultLimits.qps }}
{{- end }}
{{- with .Values.vaultLimits.burst }}
- --vault-burst={{ int . }}
{{- end }}
{{- with .Values.vaultLimits.maxConcurrency }}
- --vault-max-concurrency={{ int . }}
{{- end }}
{{- end -}}

{{- /* Argument: context, whether the process can write files on its node. */ -}}
{{- define "keyferry.auditArgs" -}}
{{- $top := first . -}}
{{- /* Without access to the node, the records are written to the log. */ -}}
{{- $log := ternary $top.Values.audit.log "log" (or (last .) (eq $top.Values.audit.log "none")) -}}
{{- if ne $log "log" }}
- --audit-log={{ $log }}
{{- end }}
{{- if and (last .) (ne (toString $top.Values.audit.maxBytes) "") }}
- --audit-log-max-bytes={{ int64 $top.Values.audit.maxBytes }}
{{- end }}
{{- end -}}

{{- define "keyferry.hmacArgs" -}}
{{- range $provider, $name := .Values.versionHmac.secretNames }}
{{- $name = ternary $name "" $.Values.versionHmac.enabled }}
{{- if ne $name (printf "%s-csi-provider-hmac-key" $provider) }}
- --{{ $provider }}-hmac-secret-name={{ $name }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "keyferry.restrictionArgs" }}
- --class-files-dirs={{ .Values.classFiles.dirs | join "," }}
{{- with .Values.vault.allowedAddresses }}
- --allowed-vault-addresses={{ . | join "," }}
{{- end }}
{{- if .Values.vault.allowLocalAddresses }}
- --allow-local-addresses=true
{{- end }}
{{- with .Values.azure.allowedTenants }}
- --azure-allowed-tenants={{ . | join "," }}
{{- end }}
{{- end -}}
