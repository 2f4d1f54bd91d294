"""Parsers of picture headers: JPEG, PNG and WebP."""
