"""Defines the `ferserve-train` command."""

from ferserve_training.cli.root import app, main

__all__ = ["app", "main"]
