"""Selects the enabled interfaces of other servers, and builds their services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server import __version__
from ferserve_server.interop.classification import WholeTensors
from ferserve_server.interop.messages import MODEL_STATUS_SERVICE, OPEN_INFERENCE_SERVICE, PREDICTION_SERVICE
from ferserve_server.interop.open_inference.handlers import OpenInference
from ferserve_server.interop.open_inference.service import OpenInferenceServicer, RepositoryControl
from ferserve_server.interop.tensorflow_serving.service import TensorFlowServingServicer

if TYPE_CHECKING:
    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.models import Models
    from ferserve_server.domain.ports import Clock
    from ferserve_server.interop.messages import GenericHandler
    from ferserve_server.interop.statistics import ServiceStatistics
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.pipeline.classify_faces import ClassifyFaces
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.control import ModelControl
    from ferserve_server.services.limits import RequestLimits


@dataclass(frozen=True, slots=True)
class InteropOptions:
    """Selects interfaces of other servers.

    Attributes:
        open_inference: True to serve the Open Inference Protocol.
        tf_serving: True to serve TensorFlow Serving's interface.
        max_unanswered_messages: Messages that a stream reads ahead of its answers.
        detection: Detection options of requests that name none.
    """

    open_inference: bool
    tf_serving: bool
    max_unanswered_messages: int
    detection: DetectionOptions


def compat_names(options: InteropOptions) -> list[str]:
    """Returns the full names of the services."""
    open_inference = [OPEN_INFERENCE_SERVICE] if options.open_inference else []
    return open_inference + ([PREDICTION_SERVICE, MODEL_STATUS_SERVICE] if options.tf_serving else [])


@dataclass(frozen=True, slots=True)
class Interop:
    """Holds the enabled interfaces of other servers.

    Attributes:
        handlers: Their services, in the form that a gRPC server takes.
        control_handlers: The same for the address of control calls.
        open_inference: What answers the Open Inference Protocol, or None if it is turned off.
        repository: What loads and unloads by its calls at the addresses of the service.
    """

    handlers: list[GenericHandler]
    control_handlers: list[GenericHandler]
    open_inference: OpenInference | None
    repository: RepositoryControl


def build_interop(  # noqa: PLR0913 - the collaborators of two services
    options: InteropOptions,
    calls: Calls,
    classify: ClassifyFaces,
    analyze: AnalyzeImages,
    models: Models,
    statistics: ServiceStatistics,
    *,
    control: ModelControl,
    own_control: ModelControl,
    limits: RequestLimits,
    clock: Clock,
) -> Interop:
    """Builds the enabled interfaces: `control` for the addresses of the service, `own_control` for its own."""
    tensors = WholeTensors(
        models.acquire, classify, analyze, detection=options.detection, statistics=statistics, clock=clock
    )
    handlers: list[GenericHandler] = []
    control_handlers: list[GenericHandler] = []
    repository = RepositoryControl(control)
    open_inference: OpenInference | None = None
    if options.open_inference:
        open_inference = OpenInference(
            tensors,
            statistics,
            models=models.models,
            model=models.model,
            default_ready=lambda: models.default_ready,
            limits=limits,
            version=__version__,
        )
        most = options.max_unanswered_messages
        handlers.append(OpenInferenceServicer(calls, open_inference, repository, max_unanswered=most).handler())
        own_repository = RepositoryControl(own_control)
        own = OpenInferenceServicer(calls, open_inference, own_repository, max_unanswered=most)
        control_handlers.append(own.handler())
    if options.tf_serving:
        handlers.extend(TensorFlowServingServicer(calls, tensors, models.model, limits).handlers())
    return Interop(handlers, control_handlers, open_inference, repository)
