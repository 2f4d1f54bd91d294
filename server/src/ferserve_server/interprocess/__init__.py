"""Processes that work together: memory they share, messages between them, and how one starts and ends another."""
