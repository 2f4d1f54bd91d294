"""HTTP/2 over asyncio sockets on libnghttp2: connections, streams, limits. Knows nothing of gRPC."""
