"""Telemetry: log output that never blocks and never raises."""
