"""Tries new versions on live traffic."""
