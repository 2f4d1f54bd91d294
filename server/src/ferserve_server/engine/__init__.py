"""Runs versions in engine processes."""
