"""Measures nets: accuracy with its uncertainty, calibration, robustness."""
