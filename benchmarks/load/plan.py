"""Defines the plan of a load: parts that run side by side, sent to the load's process as JSON."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Kind = Literal["unary", "stream", "http"]


@dataclass(frozen=True, slots=True)
class Part:
    """Describes one kind of call, from a number of callers.

    Attributes:
        name: What the tables call it.
        kind: A unary call of gRPC, messages of gRPC streams, or a POST over HTTP/1.1.
        path: The method's full name (`/ferserve.v1.EmotionService/ClassifyFaces`), or the path of the URL.
        message: The call's message, serialized. That of a stream without its sequence number.
        faces: Faces in one message; of a picture, those that are found in it.
        callers: Calls that are under way at any time, each of which sends its next one when it is answered.
        connections: Connections that the callers of unary calls share, or streams that the messages share.
        rate: Calls a second, sent when they are due whatever is unanswered; 0 for `callers` instead.
        timeout_s: Deadline that each call states, in seconds.
        cancel_s: Seconds after which every second call at a rate is cancelled by its caller; 0: none is.
        content_type: Of the HTTP body.
        headers: Further HTTP headers.
    """

    name: str
    kind: Kind
    path: str
    message: bytes
    faces: int
    callers: int = 1
    connections: int = 1
    rate: float = 0.0
    timeout_s: float = 60.0
    cancel_s: float = 0.0
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Describes a load on one server.

    Attributes:
        address: HOST:PORT.
        server_pid: The server's first process.
        server_tag: Value of `SERVER_TAG` in the environment of all its processes.
        parts: What is sent side by side.
        warm_s: Seconds of load before those that count.
        measure_s: Seconds that count.
    """

    address: str
    server_pid: int
    server_tag: str
    parts: tuple[Part, ...]
    warm_s: float
    measure_s: float

    def to_json(self) -> str:
        """Writes it as JSON, messages in base64."""
        document = asdict(self)
        for part in document["parts"]:
            part["message"] = base64.b64encode(part["message"]).decode()
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the plan that `to_json` wrote."""
        document: dict[str, Any] = json.loads(text)
        parts = [Part(**{**part, "message": base64.b64decode(part["message"])}) for part in document.pop("parts")]
        return cls(**document, parts=tuple(parts))
