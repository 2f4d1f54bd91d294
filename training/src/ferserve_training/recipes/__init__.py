"""Defines named ways to train a net."""
