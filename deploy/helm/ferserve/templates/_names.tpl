{{- define "ferserve.fullname" -}}
{{- if contains "ferserve" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-ferserve" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ferserve.selector" -}}
app.kubernetes.io/name: ferserve
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .tier }}
{{- end }}

{{- define "ferserve.labels" -}}
{{ include "ferserve.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The tier that takes callers' calls. */}}
{{- define "ferserve.frontTier" -}}
{{ if .Values.detection.enabled }}detection{{ else }}models{{ end }}
{{- end }}
