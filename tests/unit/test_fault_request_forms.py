"""Tests that one caller's forms of messages do not evict those of others (faults, item 24)."""

from __future__ import annotations

from typing import Any

import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_server.services.codec import requests
from ferserve_server.services.codec.requests import CropRequests
from support.http2 import LIMITS


def _message(alias: str, face_count: int = 1) -> bytes:
    packed = face_pb2.PackedFaces(pixels=bytes(48 * 48 * face_count), face_count=face_count)
    request = emotion_pb2.ClassifyFacesRequest(packed=packed)
    request.model.version_label = alias
    return request.SerializeToString()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The messages that were parsed by protobuf because their form was not known."""
    found: list[bytes] = []
    original = requests._KnownForms.learn

    def learn(self: Any, message: bytes, start: int, request: Any) -> None:
        found.append(message)
        original(self, message, start, request)

    monkeypatch.setattr(requests._KnownForms, "learn", learn)
    return found


def test_a_fifth_form_of_one_length_evicts_one_form_and_not_all(parsed: list[bytes]) -> None:
    reader = CropRequests(LIMITS)
    neighbour = _message("abcd", face_count=2)
    reader.read_call(neighbour)
    for number in range(5):
        reader.read_call(_message(f"abc{number}"))
    assert len(parsed) == 6
    reader.read_call(neighbour)
    reader.read_call(_message("abc4"))
    assert len(parsed) == 6
    reader.read_call(_message("abc0"))  # the oldest of that length
    assert len(parsed) == 7


def test_many_forms_of_one_caller_evict_the_oldest_one_at_a_time(parsed: list[bytes]) -> None:
    reader = CropRequests(LIMITS)
    messages = [_message("a" * length) for length in range(1, 65)] + [_message("a", face_count=2)]
    for message in messages:
        reader.read_call(message)
    del parsed[:]
    for message in messages[1:]:
        reader.read_call(message)
    assert not parsed
    reader.read_call(messages[0])
    assert parsed == messages[:1]
