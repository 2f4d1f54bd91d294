"""Holds the native gRPC server."""
