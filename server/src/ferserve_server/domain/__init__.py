"""Defines the domain: plain values, ports and errors. Uses the standard library and numpy only."""
