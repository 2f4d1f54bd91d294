"""Builds, starts, drains and stops the processes of a server."""
