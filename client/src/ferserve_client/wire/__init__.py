"""Protobuf's side of the client. Nothing outside this folder knows a message."""
