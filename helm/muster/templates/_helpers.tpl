{{- define "muster.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "muster.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "muster.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "muster.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* For what belongs to the whole cluster: two releases in two namespaces don't meet. */}}
{{- define "muster.clustername" -}}
{{- printf "%s-%s" .Release.Namespace (include "muster.fullname" .) }}
{{- end }}

{{- define "muster.selector" -}}
app.kubernetes.io/name: {{ include "muster.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "muster.labels" -}}
app.kubernetes.io/name: {{ include "muster.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: muster
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The metadata of an object of this namespace. Call it with a dict of: root, name, and perhaps namespace, labels, annotations. */}}
{{- define "muster.metadata" -}}
name: {{ .name }}
{{- if ne (toString .namespace) "none" }}
namespace: {{ .namespace | default .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "muster.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* An image by digest, or by tag, or by the tag of this version. Call it with a dict of: root, image. */}}
{{- define "muster.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "muster.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "muster.fullname" .) }}
{{- else -}}
{{- required "serviceAccount.name: give the ServiceAccount that is there, since serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "muster.lobby" -}}
{{- printf "%s-lobby" (include "muster.fullname" .) }}
{{- end }}

{{- define "muster.lobbyClustername" -}}
{{- printf "%s-%s" .Release.Namespace (include "muster.lobby" .) }}
{{- end }}

{{- define "muster.lobbySelector" -}}
app.kubernetes.io/name: {{ include "muster.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: lobby
{{- end }}

{{- define "muster.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "muster.serviceAccount" . }}
{{- end }}
