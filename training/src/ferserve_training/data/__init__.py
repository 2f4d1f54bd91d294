"""Reads and checks labelled faces."""
