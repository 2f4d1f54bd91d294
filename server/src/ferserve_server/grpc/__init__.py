"""Implements gRPC servers."""
