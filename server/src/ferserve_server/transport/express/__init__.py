"""The express door: calls with face crops over HTTP/2 that is read and written here, beside the gRPC server."""
