"""Tracks faces over the frames of one stream: motion, association, lifecycle, search, smoothing, events."""
