"""Answers single calls through Ray Serve's gRPC proxy too: one address, but slower than the servers' own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from ferserve.v1 import emotion_service_pb2, emotion_service_pb2_grpc
from ferserve_ray.deployment import Replica

if TYPE_CHECKING:
    from ray.serve.grpc_util import RayServegRPCContext

    from ferserve_ray.server import ServerOptions

SERVICERS: Final = ("ferserve.v1.emotion_service_pb2_grpc.add_EmotionServiceServicer_to_server",)
"""For `gRPCOptions(grpc_servicer_functions=...)` of `serve.start`."""

_MOST_MESSAGE_BYTES: Final = 32 * 2**20
"""Largest message, as in the server's defaults."""

_EMPTY: Final = {
    "ClassifyFaces": emotion_service_pb2.ClassifyFacesResponse,
    "AnalyzeImages": emotion_service_pb2.AnalyzeImagesResponse,
}


class ProxiedReplica(Replica):
    """Passes calls that Ray's proxy brings on to its own server, and the status back as it is."""

    def __init__(self, name: str, options: ServerOptions) -> None:
        """See `Replica`."""
        super().__init__(name, options)
        self._stub: Any = None

    async def ClassifyFaces(  # noqa: N802 - Ray finds methods by the name of the RPC
        self,
        request: emotion_service_pb2.ClassifyFacesRequest,
        grpc_context: RayServegRPCContext,
    ) -> emotion_service_pb2.ClassifyFacesResponse:
        """Classifies face crops."""
        response: emotion_service_pb2.ClassifyFacesResponse = await self._forward(
            "ClassifyFaces", request, grpc_context
        )
        return response

    async def AnalyzeImages(  # noqa: N802 - as above
        self,
        request: emotion_service_pb2.AnalyzeImagesRequest,
        grpc_context: RayServegRPCContext,
    ) -> emotion_service_pb2.AnalyzeImagesResponse:
        """Finds and classifies the faces of pictures."""
        response: emotion_service_pb2.AnalyzeImagesResponse = await self._forward(
            "AnalyzeImages", request, grpc_context
        )
        return response

    async def _forward(self, method: str, request: Any, context: RayServegRPCContext) -> Any:  # noqa: ANN401
        if self._stub is None:  # here, since the channel belongs to the event loop
            sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
            channel = grpc.aio.insecure_channel(
                self.server.address, options=[(size, _MOST_MESSAGE_BYTES) for size in sizes]
            )
            self._stub = emotion_service_pb2_grpc.EmotionServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        try:
            return await getattr(self._stub, method)(request)
        except grpc.aio.AioRpcError as error:
            # Set here, and an empty answer beside it: of an exception Ray passes on code and message, but not the
            # metadata with the details.
            context.set_code(error.code())
            context.set_details(error.details() or "")
            context.set_trailing_metadata(list(error.trailing_metadata() or ()))
            return _EMPTY[method]()
