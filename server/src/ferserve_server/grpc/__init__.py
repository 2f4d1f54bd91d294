"""Implements gRPC over `http2`: messages, statuses, deadlines and the calls of handlers."""
