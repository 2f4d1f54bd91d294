"""Which interfaces of other servers are answered, and their services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ferserve_server.transport.compat.classify import WholeTensors
from ferserve_server.transport.compat.messages import (
    MODEL_STATUS_SERVICE,
    OPEN_INFERENCE_SERVICE,
    PREDICTION_SERVICE,
)
from ferserve_server.transport.oip.servicer import OpenInferenceServicer
from ferserve_server.transport.tfs.servicer import TensorFlowServingServicer

if TYPE_CHECKING:
    from ferserve_server.domain.ports import Clock
    from ferserve_server.pipeline.classify_faces import ClassifyFaces
    from ferserve_server.repository.manager import ModelManager
    from ferserve_server.transport.calls import Calls
    from ferserve_server.transport.compat.messages import GenericHandler
    from ferserve_server.transport.compat.statistics import Statistics
    from ferserve_server.transport.limits import RequestLimits


class CompatSettings(Protocol):
    """The settings that matter here, named as there."""

    @property
    def open_inference(self) -> bool:
        """Whether the Open Inference Protocol is answered."""

    @property
    def tf_serving(self) -> bool:
        """Whether TensorFlow Serving's interface is answered."""

    @property
    def max_unanswered_messages(self) -> int:
        """Messages a stream reads ahead of its answers."""


def compat_names(settings: CompatSettings) -> list[str]:
    """The full names of the services."""
    open_inference = [OPEN_INFERENCE_SERVICE] if settings.open_inference else []
    return open_inference + ([PREDICTION_SERVICE, MODEL_STATUS_SERVICE] if settings.tf_serving else [])


def compat_handlers(  # noqa: PLR0913 - the collaborators of two services
    settings: CompatSettings,
    calls: Calls,
    classify: ClassifyFaces,
    manager: ModelManager,
    statistics: Statistics,
    *,
    limits: RequestLimits,
    clock: Clock,
    version: str,
) -> list[GenericHandler]:
    """The services, in the form that a server takes."""
    tensors = WholeTensors(manager.acquire, classify, statistics, clock)
    handlers: list[GenericHandler] = []
    if settings.open_inference:
        open_inference = OpenInferenceServicer(
            calls,
            tensors,
            statistics,
            models=manager.models,
            model=manager.model,
            default_ready=lambda: manager.default_ready,
            limits=limits,
            max_unanswered=settings.max_unanswered_messages,
            version=version,
        )
        handlers.append(open_inference.handler())
    if settings.tf_serving:
        handlers.extend(TensorFlowServingServicer(calls, tensors, manager.model, limits).handlers())
    return handlers
