"""The Open Inference Protocol (v2), in Triton's dialect, for face crops."""
