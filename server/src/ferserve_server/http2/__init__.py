"""HTTP/2 over asyncio sockets on libnghttp2: connections, streams, flow control and limits. Knows nothing of gRPC."""
