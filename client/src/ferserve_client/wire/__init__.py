"""Translates between the client's types and protobuf. Nothing outside this folder knows a message."""
