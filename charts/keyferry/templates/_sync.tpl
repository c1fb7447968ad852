{{- /* Values of the SecretSync controller, as YAML: those of secretSync, with the defaults of values.yaml and the names of upstream's chart.
`helm upgrade --reuse-values` does not know the defaults of values that a new chart adds. */ -}}
{{- define "keyferry.sync" -}}
{{- $values := include "keyferry.syncDefaults" . | fromYaml }}
{{- $policies := $values.admissionPolicies }}
{{- range $name, $value := (.Values.secretSync).admissionPolicies }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $policies $name $value }}{{ end }}
{{- end }}
{{- range $name, $value := .Values.secretSync }}
{{- if not (or (kindIs "invalid" $value) (eq $name "admissionPolicies")) }}{{ $_ := set $values $name $value }}{{ end }}
{{- end }}
{{- range $name, $value := include "keyferry.syncAliases" . | fromYaml }}
{{- if eq $name "applyPolicies" }}{{ $_ := set $policies "enabled" $value }}
{{- else if eq $name "allowedSecretTypes" }}{{ $_ := set $policies $name $value }}
{{- else }}{{ $_ := set $values $name $value }}{{ end }}
{{- end }}
{{- with (.Values.validatingAdmissionPolicies).deniedSecretTypes }}
{{- $allowed := $policies.allowedSecretTypes }}
{{- range . }}{{ $allowed = without $allowed . }}{{ end }}
{{- $_ := set $policies "allowedSecretTypes" $allowed }}
{{- end }}
{{- toYaml $values -}}
{{- end -}}

{{- /* The defaults of values.yaml. A test compares them. */ -}}
{{- define "keyferry.syncDefaults" -}}
enabled: false
namespaces: []
clusterWide: false
replicas: 2
controllerName: keyferry
defaultController: true
rotationPollInterval: 1h
tokenRequests:
  - audience: api://AzureADTokenExchange
serviceAccountOptIn: false
tokenBinding: none
legacyConditions: false
admissionPolicies:
  enabled: true
  allowedSecretTypes:
    - Opaque
    - kubernetes.io/basic-auth
    - bootstrap.kubernetes.io/token
    - kubernetes.io/dockerconfigjson
    - kubernetes.io/dockercfg
    - kubernetes.io/ssh-auth
    - kubernetes.io/tls
statusPage:
  enabled: false
  port: 8090
crd: auto
gkeCrd: false
providerContainer: []
resources:
  limits:
    cpu: 500m
    memory: 300Mi
  requests:
    cpu: 50m
    memory: 100Mi
priorityClassName: ""
nodeSelector: {}
tolerations: []
affinity: {}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
podAnnotations: {}
extraArgs: []
extraEnv: []
extraVolumes: []
extraVolumeMounts: []
{{- end -}}

{{- /* Values with the names of upstream's chart that are set, by their names in secretSync, as YAML. Its defaults, which contain nothing, are
not set. */ -}}
{{- define "keyferry.syncAliases" -}}
{{- $audiences := list }}
{{- range .Values.tokenRequestAudience }}
{{- with .audience }}{{ $audiences = append $audiences (dict "audience" .) }}{{ end }}
{{- end }}
{{- $set := dict }}
{{- with $audiences }}{{ $_ := set $set "tokenRequests" . }}{{ end }}
{{- with .Values.providerContainer }}{{ $_ := set $set "providerContainer" . }}{{ end }}
{{- with .Values.controllerName }}{{ $_ := set $set "controllerName" . }}{{ end }}
{{- range $name := list "applyPolicies" "allowedSecretTypes" }}
{{- $value := get ($.Values.validatingAdmissionPolicies | default dict) $name }}
{{- if and (hasKey ($.Values.validatingAdmissionPolicies | default dict) $name) (not (kindIs "invalid" $value)) }}{{ $_ := set $set $name $value }}{{ end }}
{{- end }}
{{- toYaml $set -}}
{{- end -}}

{{- /* Port of the status page, or empty. */ -}}
{{- define "keyferry.statusPagePort" -}}
{{- if include "keyferry.syncEnabled" . }}
{{- with (include "keyferry.sync" . | fromYaml).statusPage }}
{{- if .enabled }}{{ int (default 8090 .port) }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* true, or empty. */ -}}
{{- define "keyferry.syncEnabled" -}}
{{- if (.Values.secretSync).enabled }}true{{ end -}}
{{- end -}}

{{- /* Name of the Deployment and all other objects of the SecretSync controller, also of its service account. */ -}}
{{- define "keyferry.syncName" -}}
{{- printf "%s-sync" (include "keyferry.fullname" . | trunc 58 | trimSuffix "-") -}}
{{- end -}}

{{- /* Labels that select its Pods. They cannot change in an upgrade. */ -}}
{{- define "keyferry.syncSelector" -}}
app: keyferry-sync
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Labels of its objects. */ -}}
{{- define "keyferry.syncLabels" -}}
{{- include "keyferry.labelsWith" (list . (dict "app.kubernetes.io/component" "secret-sync")) -}}
{{- end -}}

{{- /* Lease of the leader. */ -}}
{{- define "keyferry.syncLease" -}}
{{- $name := (include "keyferry.sync" . | fromYaml).controllerName -}}
keyferry-sync{{ if ne $name "keyferry" }}-{{ $name }}{{ end }}
{{- end -}}

{{- /* Permissions in each namespace with SecretSyncs. */ -}}
{{- define "keyferry.syncRules" -}}
# Delete: only if the type of a Secret changes.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
{{- if (include "keyferry.sync" . | fromYaml).serviceAccountOptIn }}
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch]
{{- end }}
{{- end -}}

{{- /* Whether to render a CRD: true, or empty. Without a cluster (helm template), the lookup finds nothing. Argument: context, mode, name. */ -}}
{{- define "keyferry.installsCrd" -}}
{{- $mode := index . 1 -}}
{{- if ne $mode "skip" -}}
{{- $state := include "keyferry.crdState" (list (first .) (last .)) -}}
{{- if or (eq $state "absent") (and (eq $state "own") (eq $mode "auto")) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- /* absent, own (created by this release) or foreign. Argument: context, name. */ -}}
{{- define "keyferry.crdState" -}}
{{- $top := first . -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (last .) -}}
{{- $annotations := dig "metadata" "annotations" dict $there -}}
{{- if not $there -}}
absent
{{- else if and (eq (get $annotations "meta.helm.sh/release-name") $top.Release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") $top.Release.Namespace) -}}
own
{{- else -}}
foreign
{{- end -}}
{{- end -}}

{{- /* CEL: whether a Secret has exactly one owner, the SecretSync with its name. Argument: object or oldObject. */ -}}
{{- define "keyferry.ownedBySecretSync" -}}
has({{ . }}.metadata.ownerReferences) && {{ . }}.metadata.ownerReferences.size() == 1 && {{ . }}.metadata.ownerReferences.all(owner, owner.kind == 'SecretSync' && owner.name == {{ . }}.metadata.name && (owner.apiVersion.startsWith('secret-sync.x-k8s.io/') || owner.apiVersion.startsWith('secret-sync.gke.io/')))
{{- end -}}

{{- /* What to do about CRDs that the chart did not install, as a YAML list. */ -}}
{{- define "keyferry.crdNotes" -}}
{{- $sync := include "keyferry.sync" . | fromYaml }}
{{- $name := "secretsyncs.secret-sync.x-k8s.io" }}
{{- $state := include "keyferry.crdState" (list . $name) }}
{{- if and (eq $state "foreign") (ne $sync.crd "skip") }}
{{- $known := contains "observedForceSynchronization" (toJson (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name)) }}
- {{ printf "The CRD %s was not installed by this release, so Helm does not update it. %s: kubectl apply --server-side --force-conflicts -f deploy/crds/secretsyncs.yaml" $name ($known | ternary "To update it" "It drops fields of the status and refuses some paths. To replace it") | quote }}
{{- else if and (eq $state "absent") (eq $sync.crd "skip") (lookup "v1" "Namespace" "" "kube-system") }}
- {{ printf "The cluster has no CRD %s, and secretSync.crd=skip. The controller waits for it: kubectl apply --server-side -f deploy/crds/secretsyncs.yaml" $name | quote }}
{{- end }}
{{- end -}}

{{- /* The first part of an admission policy. Argument: context, name, resource, operations. */ -}}
{{- define "keyferry.policyHead" -}}
{{- $top := first . }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "keyferry.syncName" $top }}-{{ index . 1 }}
  labels:
    {{- include "keyferry.syncLabels" $top | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [""]
        apiVersions: [v1]
        operations: [{{ index . 3 }}]
        resources: [{{ index . 2 }}]
  matchConditions:
    - name: sync-controller
      expression: "request.userInfo.username == 'system:serviceaccount:{{ $top.Release.Namespace }}:{{ include "keyferry.syncName" $top }}'"
{{- end -}}

{{- /* Its binding. Argument: context, name. */ -}}
{{- define "keyferry.policyBinding" -}}
{{- $name := printf "%s-%s" (include "keyferry.syncName" (first .)) (last .) }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "keyferry.syncLabels" (first .) | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
{{- end -}}
