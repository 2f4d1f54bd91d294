"""Implements the HTTP interface: JSON documents, the WebSocket frame stream and the page."""
