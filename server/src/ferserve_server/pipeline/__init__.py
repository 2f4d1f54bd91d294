"""Implements one use case per RPC, independently of the transport."""
