"""Schedules requests into batches."""
