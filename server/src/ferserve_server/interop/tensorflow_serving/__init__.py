"""Implements TensorFlow Serving's interface."""
