{{- /*
What the operator may do where its jobs are: exactly the requests that it makes. It holds what it grants to coordinators
(get and patch of federatedjobs/status, get of clientpools) and to the lobby (get of secrets, by name), so it needs neither
escalate nor bind. Deleting claims isn't among its rights:
history goes with its job, by the garbage collector, or stays.
*/}}
{{- define "muster.rules" -}}
- apiGroups: [muster.dev]
  resources: [federatedjobs]
  verbs: [get, list, watch, patch, delete] # patch: the finalizer of jobs with SLURM pools; delete: ttlSecondsAfterFinished
- apiGroups: [muster.dev]
  resources: [clientpools]
  verbs: [get, list, watch]
- apiGroups: [muster.dev]
  resources: [federatedjobs/status, clientpools/status]
  verbs: [get, patch]
- apiGroups: [muster.dev]
  resources: [federatedjobs/finalizers, clientpools/finalizers] # asked for where an owner's deletion may be blocked (OpenShift)
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, secrets] # get: a task's code, and a job's authority, to sign with; patch: renewed certificates
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, list] # list: why the job controller can't make a Job's pods is said there, and nowhere else
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch, delete]
{{- if .Values.gateway.name }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [tlsroutes]
  verbs: [list, watch, create, patch, delete]
{{- end }}
{{- end }}

{{- /* Of the lobby: it hears of jobs and pools, and says who is there. The pools' authorities it may read one by one. */}}
{{- define "muster.lobbyRules" -}}
- apiGroups: [muster.dev]
  resources: [federatedjobs, clientpools]
  verbs: [list, watch]
- apiGroups: [muster.dev]
  resources: [clientpools/status]
  verbs: [get, patch]
{{- end }}

{{- define "muster.subject" -}}
- kind: ServiceAccount
  name: {{ include "muster.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
