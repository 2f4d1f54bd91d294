"""gRPC: the only room that knows protobuf and status codes."""
