"""Watches videos, cameras and streams: reads, sends, reconnects, and hands every frame to the outputs in order."""
