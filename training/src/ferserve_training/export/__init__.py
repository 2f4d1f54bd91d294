"""Turns a trained net into a version in the model repository."""
