"""Declares, reads and prints the settings."""
