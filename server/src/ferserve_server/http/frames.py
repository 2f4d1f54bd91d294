"""Converts between the messages of a WebSocket frame stream and those of StreamFrames. Pure."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.http.faces import format_failure, format_image, format_model, format_prediction
from ferserve_server.http.message_json import fill_message, load_object
from ferserve_server.services.status import code_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.servable import ServableId

FRAME_HEADER: Final = struct.Struct(">qd")
"""Header of a frame: number of the frame as int64, time in seconds as float64 (NaN: none), both big-endian."""

MAX_CONFIG_BYTES: Final = 16 * 1024
"""Maximum length of a stream's configuration. A complete one has about 800 bytes."""

_EVENTS: Final = {
    emotion_pb2.TRACK_EVENT_TYPE_APPEARED: "appeared",
    emotion_pb2.TRACK_EVENT_TYPE_CHANGED: "changed",
    emotion_pb2.TRACK_EVENT_TYPE_LEFT: "left",
}
_POLICIES: Final = {
    "latest": emotion_pb2.OVERLOAD_POLICY_LATEST,
    "every_frame": emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME,
    "max_age": emotion_pb2.OVERLOAD_POLICY_MAX_AGE,
}


def parse_config(text: str) -> emotion_pb2.FrameStreamConfig:
    """Reads the first message of a stream.

    Args:
        text: A JSON object with the fields of FrameStreamConfig. `model` is NAME, NAME:VERSION or NAME:ALIAS;
            `tracking` may be a truth value.

    Raises:
        InvalidRequestError: JSON_INVALID, OPTION_UNKNOWN, OPTION_OUT_OF_RANGE or MESSAGE_TOO_LARGE.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise InvalidRequestError(
            "MESSAGE_TOO_LARGE", f"config: at most {MAX_CONFIG_BYTES} bytes are taken.", field="config"
        )
    document = load_object(text, "config")
    config = emotion_pb2.FrameStreamConfig()
    if "model" in document:
        _read_model(document.pop("model"), config)
    if isinstance(document.get("tracking"), bool):
        document["tracking"] = {"enabled": document["tracking"]}
    policy = document.pop("overload_policy", None)
    if policy is not None:
        if not isinstance(policy, str) or policy not in _POLICIES:
            raise InvalidRequestError(
                "OPTION_OUT_OF_RANGE",
                f"config.overload_policy: {str(policy)[:40]!r} is not allowed; use {' or '.join(_POLICIES)}.",
                field="config.overload_policy",
            )
        config.overload_policy = _POLICIES[policy]
    fill_message(config, document, "config")
    return config


def parse_frame(message: bytes) -> emotion_pb2.StreamFramesRequest:
    """Reads a frame: `FRAME_HEADER`, then an encoded picture.

    Raises:
        InvalidRequestError: FRAME_INVALID.
    """
    if len(message) < FRAME_HEADER.size:
        raise InvalidRequestError(
            "FRAME_INVALID",
            f"frame: {len(message)} bytes are less than the header of {FRAME_HEADER.size} bytes: int64 "
            "sequence_id and float64 time_s, big-endian.",
            field="frame",
        )
    sequence_id, time_s = FRAME_HEADER.unpack_from(message)
    if math.isinf(time_s):
        raise InvalidRequestError(
            "FRAME_INVALID", "frame.time_s: use seconds, or NaN for none.", field="frame.time_s"
        )
    frame = emotion_pb2.Frame(sequence_id=sequence_id, image=message[FRAME_HEADER.size :])
    if not math.isnan(time_s):
        frame.time_s = time_s
    return emotion_pb2.StreamFramesRequest(frame=frame)


def format_ready(credit: int, labels: Sequence[str], servable: ServableId) -> dict[str, Any]:
    """Writes the answer to the configuration.

    Args:
        credit: Number of frames that may be unanswered.
        labels: Names of the classes.
        servable: The version that answers now.
    """
    model = {"name": servable.name, "version": servable.version}
    return {"type": "ready", "credit": credit, "labels": list(labels), "model": model}


def format_frame(response: emotion_pb2.StreamFramesResponse, labels: Sequence[str]) -> dict[str, Any]:
    """Writes the answer to one frame.

    Args:
        response: The answer.
        labels: Names of the classes of the version that answered.
    """
    document: dict[str, Any] = {
        "type": "frame",
        "sequence_id": response.sequence_id,
        "time_s": round(response.time_s, 6),
        "age_ms": round(response.age_ms, 3),
    }
    outcome = response.WhichOneof("outcome")
    if outcome == "failure":
        return {**document, "failure": format_failure(response.failure)}
    document["dropped"] = outcome == "dropped"
    if outcome == "dropped":
        document["newer_sequence_id"] = response.dropped.newer_sequence_id
        return document
    if outcome == "unchanged":
        document["unchanged"] = True
        return document
    document |= format_image(response.analysis, labels)
    document["events"] = [_format_event(event, labels) for event in response.events]
    document["model"] = format_model(response.servable)
    document["tracks_restarted"] = response.tracks_restarted
    return document


def format_stream_error(error: FerserveError) -> dict[str, Any]:
    """Writes the error that ends a stream."""
    document: dict[str, Any] = {
        "type": "error",
        "code": code_of(error).name,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
    }
    if error.field:
        document["field"] = error.field
    if error.retry_after_s is not None:
        document["retry_after_ms"] = round(error.retry_after_s * 1e3)
    return document


def _format_event(event: emotion_pb2.TrackEvent, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "event": _EVENTS[event.event],
        "track_id": event.track_id,
        "time_s": round(event.time_s, 6),
        "duration_s": round(event.duration_s, 6),
        **format_prediction(event.prediction, labels),
    }


def _read_model(value: object, config: emotion_pb2.FrameStreamConfig) -> None:
    if not isinstance(value, str):
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE", "config.model: use NAME, NAME:VERSION or NAME:ALIAS.", field="config.model"
        )
    name, _, choice = value.partition(":")
    config.model.name = name
    if choice.isascii() and choice.isdecimal() and len(choice) <= 18:
        config.model.version = int(choice)
    elif choice:
        config.model.version_label = choice
