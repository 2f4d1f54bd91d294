"""Describes every call once for both clients: method, request and reader of the answer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ferserve_client.numbering import FrameNumbering
from ferserve_client.wire import requests, responses
from ferserve_client.wire.stream_responses import BatchAnswerReader, FrameAnswerReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from ferserve_client.answers import BatchAnswer, Frame, FrameAnswer, Results
    from ferserve_client.errors import FerserveError
    from ferserve_client.faces import ImageAnalysis, Prediction
    from ferserve_client.options import DetectionOptions, OnError, OverloadPolicy, Priority, TrackingOptions
    from ferserve_client.servables import HealthStatus, ModelInfo

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class UnaryOperation(Generic[ResultT]):
    """Describes a call with one request and one answer."""

    method: str
    """Name of the call in `Stubs`."""
    request: object
    """The message to send."""
    read: Callable[[Any], ResultT]
    """Makes a result of the response."""


@dataclass(frozen=True, slots=True)
class StreamOperation(Generic[ItemT, ResultT]):
    """Describes a call with a stream of requests, each of which gets one answer."""

    method: str
    """Name of the call in `Stubs`."""
    first: object | None
    """Message that is sent before the others and gets no answer."""
    make_request: Callable[[ItemT], object]
    """Makes a message of a caller's item."""
    read: Callable[[Any], ResultT]
    """Makes a result of a response."""


def classify(
    faces: npt.NDArray[np.uint8] | Sequence[bytes],
    model: str,
    version: int | str | None,
    priority: Priority,
    on_error: OnError,
) -> UnaryOperation[Any]:
    """Describe the classification of crops; its result is `Results`, with errors in place under `return`."""

    def read(response: Any) -> Results[Prediction] | Results[Prediction | FerserveError]:  # noqa: ANN401 - stubs are untyped
        results = responses.read_classification(response)
        return results if on_error == "return" else responses.raise_first_error(results)

    return UnaryOperation("classify_faces", requests.classify_request(faces, model, version, priority), read)


def analyze(
    images: Sequence[bytes],
    model: str,
    version: int | str | None,
    priority: Priority,
    detection: DetectionOptions | None,
) -> UnaryOperation[Results[ImageAnalysis]]:
    """Describe the analysis of whole pictures."""
    request = requests.analyze_request(images, model, version, priority, detection)
    return UnaryOperation("analyze_images", request, responses.read_analyses)


def stream_frames(  # noqa: PLR0913, PLR0917 - the options of one message, as the clients name them
    model: str,
    version: int | str | None,
    policy: OverloadPolicy,
    detection: DetectionOptions | None,
    tracking: TrackingOptions | None,
    events_only: bool,
    max_age_ms: int | None,
    resumed_after_sequence_id: int | None,
) -> StreamOperation[bytes | Frame, FrameAnswer]:
    """Describe a frame stream."""
    first = requests.stream_config(
        model=model,
        version=version,
        policy=policy,
        detection=detection,
        tracking=tracking,
        events_only=events_only,
        max_age_ms=max_age_ms,
        resumed_after_sequence_id=resumed_after_sequence_id,
    )
    numbering = FrameNumbering(0 if resumed_after_sequence_id is None else resumed_after_sequence_id + 1)
    return StreamOperation(
        "stream_frames",
        first,
        lambda frame: requests.frame_request(numbering.number(frame)),
        FrameAnswerReader().read,
    )


def classify_stream(
    model: str, version: int | str | None, priority: Priority
) -> StreamOperation[npt.NDArray[np.uint8], BatchAnswer]:
    """Describe a crop stream."""
    spec = requests.model_spec(model, version)
    numbers = itertools.count()
    return StreamOperation(
        "classify_stream",
        None,
        lambda faces: requests.batch_request(next(numbers), faces, spec, priority),
        BatchAnswerReader().read,
    )


def list_models(page_token: str) -> UnaryOperation[tuple[list[ModelInfo], str]]:
    """Describe the request for one page of models; its result is the page and the next token, empty at the end."""
    return UnaryOperation("list_models", requests.models_request(page_token), responses.read_models)


def get_model(name: str) -> UnaryOperation[ModelInfo]:
    """Describe the request for one model."""
    return UnaryOperation("get_model", requests.model_request(name), responses.read_model_response)


def check_health(service: str) -> UnaryOperation[HealthStatus]:
    """Describe the question for the health of a service."""
    return UnaryOperation("check_health", requests.health_request(service), responses.read_health)
