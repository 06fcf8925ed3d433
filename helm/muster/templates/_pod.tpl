{{- /* What Pod Security "restricted" asks for. */}}
{{- define "muster.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "muster.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What muster_operator.settings reads. */}}
{{- define "muster.environment" -}}
- name: MUSTER_COORDINATOR_IMAGE
  value: {{ include "muster.image" (dict "root" . "image" (ternary .Values.coordinatorImage .Values.image (ne .Values.coordinatorImage.repository ""))) }}
- name: MUSTER_WORKER_IMAGE
  value: {{ include "muster.image" (dict "root" . "image" .Values.workerImage) }}
{{- with .Values.jobImagePullSecrets }}
- name: MUSTER_IMAGE_PULL_SECRETS
  value: {{ join "," . | quote }}
{{- end }}
- name: MUSTER_LEASE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: MUSTER_NAMESPACES
  value: {{ join "," .Values.watch.namespaces | quote }}
- name: MUSTER_RECONCILERS
  value: {{ .Values.operator.reconcilers | quote }}
- name: MUSTER_RESYNC_SECONDS
  value: {{ .Values.operator.resyncSeconds | quote }}
- name: MUSTER_WORKER_CERTIFICATE_MINUTES
  value: {{ .Values.certificates.workerMinutes | quote }}
- name: MUSTER_LOG_FORMAT
  value: {{ .Values.logging.format }}
- name: MUSTER_LOG_LEVEL
  value: {{ .Values.logging.level }}
{{- if .Values.lobby.enabled }}
- name: MUSTER_LOBBY_ADDRESS
  value: {{ required "lobby.address: say where sites dial the lobby, HOST:PORT" .Values.lobby.address | quote }}
- name: MUSTER_LOBBY_NAME
  value: {{ include "muster.lobby" . }}
{{- end }}
{{- with .Values.gateway }}
{{- if .name }}
- name: MUSTER_GATEWAY
  value: {{ .name }}
- name: MUSTER_GATEWAY_NAMESPACE
  value: {{ .namespace | default $.Release.Namespace }}
- name: MUSTER_GATEWAY_SECTION
  value: {{ .sectionName | quote }}
- name: MUSTER_GATEWAY_DOMAIN
  value: {{ required "gateway.domain: coordinators are called JOB.NAMESPACE.DOMAIN" .domain }}
- name: MUSTER_GATEWAY_PORT
  value: {{ .port | quote }}
{{- end }}
{{- end }}
{{- if or .Values.proxy.http .Values.proxy.https }}
{{- with .Values.proxy.http }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.proxy.https }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
- name: NO_PROXY
  value: {{ prepend (compact (list .Values.proxy.noProxy)) "$(KUBERNETES_SERVICE_HOST),.svc,.cluster.local" | join "," | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
