"""Converts encoded pictures to face crops, with OpenCV."""
