"""Reads, draws on and writes video. Needs the extras `video` and `media`, imported when they are used."""
