"""Nets: their description, their trainable form and their folded form."""
