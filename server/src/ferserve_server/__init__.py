"""The gRPC server of ferserve: facial expressions from face crops, pictures and video streams."""

__version__ = "0.1.0"
