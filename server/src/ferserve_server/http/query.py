"""Reads options from a query string; they are those of the gRPC messages, under the same rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ferserve.v1 import face_pb2, servable_pb2
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.names import is_alias
from ferserve_server.domain.ports import Priority
from ferserve_server.services.codec import messages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.servable import ModelSpec
    from ferserve_server.services.limits import RequestLimits

Value = TypeVar("Value")

TIMEOUT: Final = "timeout_ms"
_WHOLE_NUMBERS: Final = ("detection_side_pixels", "min_face_pixels", "max_faces")
_NUMBERS: Final = ("score_threshold",)
_HAAR: Final = ("scale_factor", "min_neighbors")
_CHOICES: Final = ("model", "version", "priority", "detect", "detector", "tiles", "not_a_face_policy", "region")
ANALYZE_OPTIONS: Final = (*_CHOICES, *_WHOLE_NUMBERS, *_NUMBERS, *_HAAR, TIMEOUT)
"""Options of POST /v1/analyze."""

_PRIORITIES: Final = {"interactive": Priority.INTERACTIVE, "bulk": Priority.BULK}
_FACE_SOURCES: Final = {"true": face_pb2.FACE_SOURCE_DETECT, "false": face_pb2.FACE_SOURCE_WHOLE_IMAGE}
_NOT_A_FACE_POLICIES: Final = {
    "drop": face_pb2.NOT_A_FACE_POLICY_DROP,
    "mark": face_pb2.NOT_A_FACE_POLICY_MARK,
    "ignore": face_pb2.NOT_A_FACE_POLICY_IGNORE,
}
_FLAGS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """Holds the options of an analysis of pictures."""

    spec: ModelSpec
    priority: Priority
    detection: DetectionOptions


def parse_options(pairs: Iterable[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    """Reads a query string's names and values.

    Args:
        pairs: The names and values, decoded.
        known: Names that mean something here.

    Raises:
        InvalidRequestError: OPTION_UNKNOWN, or OPTION_REPEATED.
    """
    options: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise InvalidRequestError(
                "OPTION_UNKNOWN",
                f"There is no option {name[:40]!r} here; use {', '.join(known)}.",
                field=name[:40],
            )
        if name in options:
            raise InvalidRequestError("OPTION_REPEATED", f"{name}: give it once.", field=name)
        options[name] = value
    return options


def parse_timeout(options: Mapping[str, str]) -> float | None:
    """Reads the caller's timeout, in seconds, or None without a limit.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    if TIMEOUT not in options:
        return None
    timeout_ms = _whole_number(options, TIMEOUT)
    if timeout_ms < 1:
        raise _out_of_range(TIMEOUT, options[TIMEOUT], "a whole number of milliseconds from 1")
    return timeout_ms / 1e3


def parse_analyze(options: Mapping[str, str], defaults: DetectionOptions, limits: RequestLimits) -> AnalyzeOptions:
    """Reads the options of POST /v1/analyze. An option that is not there keeps the server's setting.

    Raises:
        InvalidRequestError: MODEL_NAME_INVALID or OPTION_OUT_OF_RANGE; its field is the option's name.
    """
    spec = servable_pb2.ModelSpec(name=options.get("model", ""))
    if is_alias(options.get("version", "")):
        spec.version_label = options["version"]
    elif "version" in options:
        spec.version = _whole_number(options, "version")
    detection = face_pb2.DetectionOptions(
        face_source=_choice(options, "detect", _FACE_SOURCES, face_pb2.FACE_SOURCE_DETECT),
        detector=_choice(options, "detector", messages.DETECTORS, "DETECTOR_UNSPECIFIED"),
        tiles=_choice(options, "tiles", _FLAGS, default=False),
        not_a_face_policy=_choice(
            options, "not_a_face_policy", _NOT_A_FACE_POLICIES, face_pb2.NOT_A_FACE_POLICY_UNSPECIFIED
        ),
    )
    if "region" in options:
        detection.region.CopyFrom(_region(options["region"]))
    if "scale_factor" in options:
        detection.haar.scale_factor = _number(options, "scale_factor")
    if "min_neighbors" in options:
        detection.haar.min_neighbors = _whole_number(options, "min_neighbors")
    for name in options:
        if name in _WHOLE_NUMBERS:
            setattr(detection, name, _whole_number(options, name))
        elif name in _NUMBERS:
            setattr(detection, name, _number(options, name))
    priority = _choice(options, "priority", _PRIORITIES, Priority.INTERACTIVE)
    try:
        return AnalyzeOptions(
            messages.parse_spec(spec), priority, messages.parse_detection(detection, defaults, limits)
        )
    except InvalidRequestError as error:
        # The option's name is the last part of the field's: detection.min_face_pixels, model.version.
        error.field = "model" if error.field == "model.name" else error.field.rpartition(".")[2]
        raise


def _choice(options: Mapping[str, str], name: str, values: Mapping[str, Value], default: Value) -> Value:
    if name not in options:
        return default
    try:
        return values[options[name]]
    except KeyError:
        raise _out_of_range(name, options[name], " or ".join(values)) from None


def _region(text: str) -> face_pb2.BoundingBox:
    """Reads `left,top,width,height`, in pixels."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) <= 9 for part in parts):
        raise _out_of_range("region", text, "left,top,width,height as whole numbers of pixels")
    left, top, width, height = map(int, parts)
    return face_pb2.BoundingBox(left=left, top=top, width=width, height=height)


def _whole_number(options: Mapping[str, str], name: str) -> int:
    text = options[name]
    # isdecimal() also takes digits of other scripts; 9 of them fit an int32.
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise _out_of_range(name, text, "a whole number")
    return int(text)


def _number(options: Mapping[str, str], name: str) -> float:
    try:
        return float(options[name])
    except ValueError:
        raise _out_of_range(name, options[name], "a number") from None


def _out_of_range(name: str, value: str, allowed: str) -> InvalidRequestError:
    return InvalidRequestError(
        "OPTION_OUT_OF_RANGE", f"{name}: {value[:40]!r} is not allowed; use {allowed}.", field=name
    )
