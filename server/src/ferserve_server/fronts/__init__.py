"""Front processes: they take calls in, and have their faces scored by the process that owns the models."""
