"""gRPC's client side: the servers of a model tier. Knows messages; what is gathered and sent is decided elsewhere."""
