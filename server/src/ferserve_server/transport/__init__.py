"""gRPC: the only room that knows protobuf and status codes."""

from ferserve_server.grpc.polling import choose_polling

choose_polling()  # before any file of this room imports gRPC
