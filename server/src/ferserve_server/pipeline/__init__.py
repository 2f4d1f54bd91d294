"""One use case per RPC, free of transport."""
