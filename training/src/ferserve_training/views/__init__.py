"""Makes the views that nets are shown: augmented, degraded and mixed views, non-faces, and banks."""
