"""Implements the interfaces of other inference servers."""
