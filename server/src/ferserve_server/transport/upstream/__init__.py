"""gRPC's client side: the servers of a model tier. What is gathered and sent is decided elsewhere."""
