"""Provides clock, tasks and sockets of a process."""
