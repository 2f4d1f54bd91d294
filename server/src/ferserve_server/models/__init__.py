"""Manages the lifecycle of model versions."""
