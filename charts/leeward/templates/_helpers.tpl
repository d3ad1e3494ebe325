{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{- define "leeward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, of one component: (list . "hub") */}}
{{- define "leeward.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "leeward.labels" -}}
{{- $root := index . 0 -}}
{{ include "leeward.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "leeward.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* HOST:PORT of the control plane */}}
{{- define "leeward.hub" -}}
{{- if .Values.hub.enabled -}}
{{ include "leeward.fullname" . }}-hub.{{ .Release.Namespace }}.svc:9442
{{- else -}}
{{ required "hub.address is required when hub.enabled is false" .Values.hub.address }}
{{- end -}}
{{- end -}}

{{- define "leeward.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.id }}
runAsGroup: {{ .Values.podSecurity.id }}
fsGroup: {{ .Values.podSecurity.id }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "leeward.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What all pods have: (list . "hub" .Values.hub) */}}
{{- define "leeward.podCommon" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "leeward.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "leeward.volumeClaim" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}

{{/* Ingress from agents and nodes elsewhere. */}}
{{- define "leeward.fromAgents" -}}
{{- with .Values.networkPolicy.agentCidrs }}
from:
  {{- range . }}
  - ipBlock:
      cidr: {{ . }}
  {{- end }}
  - podSelector:
      matchLabels:
        app.kubernetes.io/instance: {{ $.Release.Name }}
{{- end }}
{{- end -}}

{{- define "leeward.dnsEgress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}
