"""Adapts Keras to TensorFlow and to JAX in the few things that each does in its own way."""
