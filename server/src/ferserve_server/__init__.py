"""Serves facial expressions over gRPC: from face crops, pictures and video streams."""

from ferserve_server.runtime.grpc_polling import choose_polling

__version__ = "0.1.0"

choose_polling()  # before any module imports grpcio
