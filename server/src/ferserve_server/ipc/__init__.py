"""Connects processes: channels, child processes, shared memory."""
