"""What computes: Keras on TensorFlow or on JAX, and the few things that each does in its own way."""
