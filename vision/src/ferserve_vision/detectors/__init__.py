"""Face detectors behind one port."""
