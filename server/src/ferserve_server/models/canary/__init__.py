"""Evaluates new versions on live traffic."""
