"""Builds the services that answer calls, independent of the process that loads the models."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ferserve_server.backends.processor import cpu_count
from ferserve_server.domain import metrics
from ferserve_server.grpc.grpcio_server import listening_grpc, new_server, register_services
from ferserve_server.grpc.router import EmotionCalls, Router
from ferserve_server.grpc.stream import GrpcStream
from ferserve_server.http2.registry import ConnectionLimits, ConnectionRegistry, serving
from ferserve_server.interop.services import InteropOptions, build_interop, compat_names
from ferserve_server.pipeline.analyze_images import AnalyzeImages
from ferserve_server.pipeline.classify_faces import ClassifyFaces
from ferserve_server.pipeline.stream_frames import StreamFrames, StreamLimits
from ferserve_server.runtime.addresses import port_of
from ferserve_server.runtime.background_tasks import background
from ferserve_server.runtime.endpoint import Endpoint
from ferserve_server.runtime.listener import accepting
from ferserve_server.runtime.tls import ServerTls, TlsFiles
from ferserve_server.services.calls import Calls
from ferserve_server.services.control import ModelControl
from ferserve_server.services.control_access import TokenFile, build_authorizers, opened_token
from ferserve_server.services.emotion import EmotionServicer
from ferserve_server.services.health import HealthReporter
from ferserve_server.services.limits import RequestLimits
from ferserve_server.services.models import ModelServicer
from ferserve_server.telemetry.tracing import VisionSpans
from ferserve_server.vision.limits import VisionLimits
from ferserve_server.vision.picture_reader import installed_detectors
from ferserve_server.vision.pool import VisionPool

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import AsyncIterator, Callable

    import grpc

    from ferserve_server.config.settings import Settings
    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.models import Models
    from ferserve_server.interop.services import Interop
    from ferserve_server.interop.statistics import ServiceStatistics
    from ferserve_server.runtime.clock import MonotonicClock
    from ferserve_server.telemetry.tracing import Tracer


@dataclass(frozen=True, slots=True)
class Service:
    """Bundles the services that answer calls.

    Attributes:
        calls: Takes calls in and sees them out.
        limits: Bounds of a request.
        health: Status that health checks report.
        analyze: Finds and scores the faces of pictures.
        emotion: EmotionService.
        stream_frames: Answers the frames of streams.
        own_models: ModelService for the address of control calls.
        interop: The interfaces of other servers.
        tls: For TLS, or None.
        control_tls: The same at the address of control calls.
    """

    calls: Calls
    limits: RequestLimits
    health: HealthReporter
    analyze: AnalyzeImages
    emotion: EmotionServicer
    stream_frames: StreamFrames
    own_models: ModelServicer
    interop: Interop
    tls: ServerTls | None
    control_tls: ServerTls | None
    _models: ModelServicer
    _tokens: tuple[TokenFile, ...]

    def reload(self) -> None:
        """Reads TLS files and the control token again if they have changed, now rather than within a second."""
        for tls in (self.tls, self.control_tls):
            if tls is not None:
                tls.refresh(now=True)
        for token in self._tokens:
            token.refresh()

    @contextlib.asynccontextmanager
    async def listening(
        self,
        settings: Settings,
        now: Callable[[], float],
        sockets: list[socket.socket],
        *,
        share_port: bool = False,
    ) -> AsyncIterator[Endpoint]:
        """Serves calls at the service's address during the block, then gives clients one second to disconnect.

        Args:
            settings: The settings.
            now: The time, in seconds.
            sockets: Bound to that address; none with gRPC's server, which binds its own.
            share_port: True if this is one of several processes that listen on the same port, with gRPC's server.

        Yields:
            The address.

        Raises:
            ListenError: The address cannot be listened on.
        """
        if settings.server.grpc_server == "native":
            async with self.connections(settings, now) as own:
                with accepting(sockets, own.accept) as close_sockets:
                    yield native_endpoint(port_of(sockets), own, close_sockets)
            return
        server = new_server(
            self.limits, share_port=share_port, max_connection_age_s=settings.server.max_connection_age_s
        )
        self._register(server, settings)
        async with listening_grpc(server, settings.server.listen, self.tls, "--listen") as endpoint:
            yield endpoint

    @contextlib.asynccontextmanager
    async def connections(self, settings: Settings, now: Callable[[], float]) -> AsyncIterator[ConnectionRegistry]:
        """Serves calls on the connections added to the registry, for the duration of the block.

        Raises:
            ListenError: The TLS files cannot be used.
        """
        router = Router(self.limits)
        self._register(router, settings)
        emotion = EmotionCalls(router, self.calls, self.emotion, self.health)
        context = None if self.tls is None else partial(self.tls.context, "h2")
        limits = ConnectionLimits(
            max_connections=settings.server.max_connections,
            max_connections_per_peer=settings.server.max_connections_per_peer,
            max_age_s=settings.server.max_connection_age_s,
            max_message_bytes=settings.limits.max_message_bytes,
            max_header_list_bytes=settings.limits.max_metadata_bytes * 2,
        )
        registry = ConnectionRegistry(partial(GrpcStream, router), limits, context, now)
        with background("stream drain", emotion.drain_streams):
            async with serving(registry):
                yield registry

    def _register(self, server: grpc.aio.Server | Router, settings: Settings) -> None:
        register_services(
            server,
            self.emotion,
            self._models,
            self.health,
            self.interop.handlers,
            with_reflection=settings.server.reflection,
        )


def native_endpoint(
    port: int | None, connections: ConnectionRegistry, close_sockets: Callable[[], None] = lambda: None
) -> Endpoint:
    """Returns the address of a server on libnghttp2: its sockets close first, then its clients are notified."""

    def leave() -> None:
        close_sockets()
        connections.leave()

    return Endpoint(port, leave, lambda: connections.has_left)


def build_service(
    settings: Settings,
    models: Models,
    vision: VisionPool,
    statistics: ServiceStatistics,
    recorder: MetricsRecorder,
    clock: MonotonicClock,
    tracer: Tracer | None,
) -> Service:
    """Builds the services that answer calls.

    Raises:
        TokenFileError: The file of the token for control calls cannot be used.
    """
    limits = RequestLimits(
        settings.limits.max_message_bytes,
        settings.limits.max_metadata_bytes,
        settings.limits.max_faces_per_request,
        settings.limits.max_images_per_request,
        settings.detection.max_detection_side_pixels,
    )
    calls = Calls(limits, recorder, clock, tracer)
    classify = ClassifyFaces(models.acquire, vision)
    analyze = AnalyzeImages(models.acquire, vision)
    stream_limits = StreamLimits(settings.streams.max_unanswered_messages, settings.streams.max_running_frames)
    stream_frames = StreamFrames(models.acquire, vision, stream_limits, clock, recorder)
    emotion = EmotionServicer(
        calls,
        classify,
        analyze,
        stream_frames,
        limits=limits,
        detection=settings.detection.options,
        tracking=settings.streams.tracking(settings.limits.max_faces_per_image),
        recorder=recorder,
        clock=clock,
    )
    interop_options = InteropOptions(
        open_inference=settings.server.open_inference,
        tf_serving=settings.server.tf_serving,
        max_unanswered_messages=settings.streams.max_unanswered_messages,
        detection=settings.detection.options,
    )
    token = opened_token(settings.control)
    authorizer, own_authorizer = build_authorizers(settings.control, token)

    def rejected(reason: str) -> None:
        recorder.count(metrics.CONTROL_REJECTIONS, reason)

    control = ModelControl(models, authorizer, rejected)
    own_control = ModelControl(models, own_authorizer, rejected)
    tls_settings = settings.tls
    files = TlsFiles.named(tls_settings.tls_cert_file, tls_settings.tls_key_file, tls_settings.tls_client_ca_file)
    tls = None if files is None else ServerTls(files)
    interop = build_interop(
        interop_options,
        calls,
        classify,
        analyze,
        models,
        statistics,
        control=control,
        own_control=own_control,
        limits=limits,
        clock=clock,
    )
    return Service(
        calls,
        limits,
        HealthReporter(compat_names(interop_options)),
        analyze,
        emotion,
        stream_frames,
        ModelServicer(calls, models.models, models.model, own_control),
        interop,
        tls,
        control_tls(settings, tls),
        ModelServicer(calls, models.models, models.model, control),
        () if token is None else (token,),
    )


def control_tls(settings: Settings, tls: ServerTls | None) -> ServerTls | None:
    """Returns TLS for the address of control calls: with authorities of its own if the settings name any.

    Raises:
        ListenError: The files cannot be used.
    """
    authorities, certificate, key = (
        settings.control.control_client_ca_file,
        settings.tls.tls_cert_file,
        settings.tls.tls_key_file,
    )
    files = TlsFiles.named(certificate, key, authorities) if authorities else None
    return tls if files is None else ServerTls(files)


def build_vision(settings: Settings, recorder: MetricsRecorder, tracer: Tracer | None) -> VisionPool:
    """Starts the threads that decode pictures; the caller closes them."""
    return VisionPool(
        thread_count=settings.detection.vision_threads or cpu_count(),
        limits=VisionLimits(
            max_image_pixels=settings.limits.max_image_pixels,
            max_faces_per_image=settings.limits.max_faces_per_image,
            max_queue_images=settings.limits.max_queue_images,
            max_queue_bytes=settings.limits.max_queue_image_mib * 2**20,
            max_decode_bytes=settings.limits.max_decode_mib * 2**20,
            max_decode_s=settings.limits.max_decode_s,
        ),
        detectors=installed_detectors(settings.detection.detector),
        recorder=recorder,
        tracer=None if tracer is None else VisionSpans(tracer),
    )


async def follow_health(
    models: Models, health: HealthReporter, changed: asyncio.Event, on_report: Callable[[], None] = lambda: None
) -> None:
    """Updates the health status after every change of readiness, and calls back. Cancel to stop."""
    while True:
        await health.report(ready=models.default_ready)
        on_report()
        await changed.wait()
        changed.clear()
