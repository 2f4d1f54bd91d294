"""Makes what nets are shown: augmented, degraded and mixed views, faces' opposites, and banks of views."""
