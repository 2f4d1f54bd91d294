"""Tests that independent gRPC clients make every kind of call at both servers, with the same results."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from ferserve_client import EmotionClient
from support.certificates import make_certificates
from support.grpc_clients import grpc_go, grpc_js
from support.grpc_proxies import PROXIES, proxied
from support.local_server import GRPC_SERVERS
from support.server_process import run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.grpc_clients import GrpcClient
    from support.server_process import ServerProcess

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, UNAVAILABLE = 0, 1, 3, 4, 5, 12, 14
MAKERS: dict[str, Callable[[], GrpcClient]] = {"node": grpc_js, "go": grpc_go}
EVERYDAY = ("node", "native")
"""The one that runs with all tests; the others run with `make conformance`."""


@pytest.fixture(scope="module")
def server_behind(tiny_model_repo: Path) -> Iterator[Callable[[str], ServerProcess]]:
    """Gives a running server of a kind, the same one each time."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def server(grpc_server: str) -> ServerProcess:
            return stack.enter_context(run_server(tiny_model_repo, "--grpc-server", grpc_server))

        yield server


@pytest.fixture(scope="module")
def own_scores(server_behind: Callable[[str], ServerProcess]) -> np.ndarray:
    """The scores of the faces that the programs in `clients/` make, in their order."""
    at = np.arange(48 * 48)
    faces = [(at * at) % (2 + 29 * face % 254) for face in range(520)]
    crops = np.array(faces).reshape(-1, 48, 48).astype(np.uint8)
    with EmotionClient(server_behind("native").address) as client:
        found = [client.classify(crops[:260], timeout_s=60), client.classify(crops[260:], timeout_s=60)]
    return np.array([list(each.scores.values()) for batch in found for each in batch])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((maker, *way), marks=() if (maker, *way) == EVERYDAY else pytest.mark.conformance)
        for maker in MAKERS
        for way in [(grpc_server,) for grpc_server in GRPC_SERVERS]
        + [(proxy, grpc_server) for proxy in PROXIES for grpc_server in GRPC_SERVERS]
    ],
    ids="-".join,
)
def play(
    request: pytest.FixtureRequest,
    server_behind: Callable[[str], ServerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Any]]:
    """Plays a scenario with one of the clients at one of the servers, or at a proxy in front of it."""
    maker, *proxy, grpc_server = request.param
    client, server = MAKERS[maker](), server_behind(grpc_server)
    address = server.address
    with contextlib.ExitStack() as stack:
        for name in proxy:
            folder = tmp_path_factory.mktemp(name)
            address = stack.enter_context(proxied(name, address, server.http_url, folder))
        yield lambda scenario: client.run(address, scenario)


def assert_scores(answer: dict[str, Any], expected: np.ndarray) -> None:
    assert answer["code"] == OK, answer
    assert np.allclose(answer["scores"], expected, atol=1e-5)


def assert_answers(ended: dict[str, Any], own_scores: np.ndarray, counts: list[int]) -> None:
    """Each request of a stream was answered, in order, by the scores of the faces from its own number on."""
    assert [answer["id"] for answer in ended["answers"]] == list(range(len(counts)))
    for at, (answer, count) in enumerate(zip(ended["answers"], counts, strict=True)):
        assert np.allclose(answer["scores"], own_scores[at : at + count], atol=1e-5)


def reason_of(reported: dict[str, Any]) -> str:
    """The reason in the details of a rejection, which say what its code and message say."""
    status = status_pb2.Status.FromString(base64.b64decode(reported["details"]))
    assert (status.code, status.message) == (reported["code"], reported["message"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


def test_the_faces_of_the_clients_are_distinguished(own_scores):
    differences = np.abs(own_scores[1:300] - own_scores[:299]).max(axis=1)
    assert differences.min() > 5e-5


def test_more_calls_than_a_connection_carries_at_once_are_answered(play, own_scores):
    for at, answer in enumerate(play("single_faces")):
        assert_scores(answer, own_scores[at : at + 1])


def test_messages_longer_than_the_windows_are_answered_side_by_side(play, own_scores):
    for at, answer in enumerate(play("long_messages")):
        assert_scores(answer, own_scores[at : at + 512])


def test_a_long_message_whose_end_is_reported_later_is_answered(play, own_scores):
    assert_scores(play("late_end"), own_scores[:512])


def test_a_stream_that_sends_ahead_is_answered_to_its_end(play, own_scores):
    ended = play("stream")
    assert ended["code"] == OK
    assert_answers(ended, own_scores, [1 + at % 3 for at in range(60)])


def test_a_stream_of_long_messages_is_answered_to_its_end(play, own_scores):
    ended = play("long_stream")
    assert ended["code"] == OK
    assert_answers(ended, own_scores, [400] * 8)


def test_a_stream_that_waits_for_every_answer_gets_it(play, own_scores):
    ended = play("question_and_answer")
    assert ended["code"] == OK
    assert_answers(ended, own_scores, [1] * 20)


def test_health_is_reported(play):
    server, service, stranger = play("health")
    assert (server, service, stranger["code"]) == ("SERVING", "SERVING", NOT_FOUND)


def test_what_is_late_ends_and_the_channel_goes_on(play, own_scores):
    found = play("deadlines")
    assert found["stream"]["code"] == found["late"]["code"] == DEADLINE_EXCEEDED
    assert_answers(found["stream"], own_scores, [1])
    assert_scores(found["after"], own_scores[:1])


def test_what_is_cancelled_ends_and_the_channel_goes_on(play, own_scores):
    found = play("cancelled")
    assert found["codes"] == [CANCELLED]
    assert found["unary"] in {OK, CANCELLED}  # it may have been answered before
    assert_scores(found["after"], own_scores[:1])


def test_rejections_come_with_their_message_and_details(play, own_scores):
    found = play("errors")
    reasons = {name: reason_of(found[name]) for name in ("wrong", "too_long", "stream")}
    assert reasons == {
        "wrong": "PIXELS_LENGTH_MISMATCH",
        "too_long": "MESSAGE_TOO_LARGE",
        "stream": "SEQUENCE_NOT_RISING",
    }
    assert [answer["id"] for answer in found["stream"]["answers"]] == [5]
    assert found["unknown"]["code"] == UNIMPLEMENTED
    assert_scores(found["after"], own_scores[:1])


def test_many_rejections_of_long_messages_leave_the_channel_in_peace(play, own_scores):
    found = play("rejections")
    assert found["codes"] == [UNIMPLEMENTED]
    assert_scores(found["after"], own_scores[:1])


def test_metadata_is_taken_and_too_much_of_it_rejected(play, own_scores, request):
    found = play("metadata")
    assert_scores(found["taken"], own_scores[:1])
    assert found["rejected"]["code"] != OK
    if not any(name in request.node.name for name in PROXIES):  # which have narrower bounds, and no words for it
        assert reason_of(found["rejected"]) == "METADATA_TOO_LARGE"
    assert_scores(found["after"], own_scores[:1])


def test_a_channel_that_was_idle_is_used_again(play, own_scores):
    found = play("idle")
    assert found["states"] == [2]  # READY: it pinged, and nobody minded
    for at, answer in enumerate(found["found"]):
        assert_scores(answer, own_scores[at : at + 1])


@pytest.mark.conformance
@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_server_that_goes_answers_what_it_took_and_says_why(tiny_model_repo, own_scores, maker, grpc_server):
    client = MAKERS[maker]()
    with (
        run_server(tiny_model_repo, "--grpc-server", grpc_server) as server,
        client.start(server.address, "drained") as program,
    ):
        try:
            assert program.stdout.readline() == "ready\n"
            server.terminate()
            assert server.wait() == 0
            found = json.loads(program.communicate(timeout=60)[0].splitlines()[-1])
        finally:
            program.kill()
    assert reason_of(found["ended"]) == "DRAINING"
    assert [answer["id"] for answer in found["ended"]["answers"]] == [3]
    assert found["after"]["code"] == UNAVAILABLE


@pytest.mark.conformance
@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("maker", MAKERS)
def test_with_tls_they_are_answered_too(tiny_model_repo, own_scores, tmp_path, maker, grpc_server):
    certificates = make_certificates(tmp_path)
    files = ("--tls-cert-file", certificates / "server.pem", "--tls-key-file", certificates / "server.key")
    client = MAKERS[maker]()
    with run_server(tiny_model_repo, "--grpc-server", grpc_server, *map(str, files), ready=False) as server:
        server.wait_for_event("version ready")
        for at, answer in enumerate(client.run(server.address, "long_messages", certificates / "ca.pem")):
            assert_scores(answer, own_scores[at : at + 512])
