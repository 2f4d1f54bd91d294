"""TensorFlow Serving's interface, for face crops."""
