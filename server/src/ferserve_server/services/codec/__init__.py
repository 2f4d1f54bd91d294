"""Reads and writes the messages of the API."""
