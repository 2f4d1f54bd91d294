"""Implements HTTP/2 over asyncio sockets on libnghttp2: connections, streams, limits. Independent of gRPC."""
