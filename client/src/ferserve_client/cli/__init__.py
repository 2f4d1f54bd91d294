"""Runs the command `ferserve`."""

from ferserve_client.cli.app import app, main

__all__ = ["app", "main"]
