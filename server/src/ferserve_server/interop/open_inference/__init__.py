"""Implements the Open Inference Protocol."""
