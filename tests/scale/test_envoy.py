"""Tests calls through the real Envoy, with the project's configuration, to three real servers."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from envoy_proxy import CONFIGURATION, ENVOY, Envoy
from google.rpc import error_details_pb2, status_pb2

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc as emotion_grpc
from ferserve.v1 import face_pb2, servable_pb2
from support.engine_children import CRASH, special_face
from support.fake_models import publish_fake
from support.local_server import classes_of, packed, rejection_of
from support.processes import ENGINE, children
from support.rolling import Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER_TESTS = Path(__file__).parents[1] / "browser"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
BROWSER_MISSING = CHROMIUM is None or not (BROWSER_TESTS / "node_modules" / "grpc-web").is_dir()

Request = emotion_pb2.ClassifyFacesRequest
TIMEOUT_S = 60.0


def special(what: int) -> emotion_pb2.ClassifyFacesRequest:
    return Request(packed=face_pb2.PackedFaces(pixels=special_face(what).tobytes(), face_count=1))


REJECTED = {
    "bad request": (Request(packed=face_pb2.PackedFaces(pixels=b"x", face_count=1)), "INVALID_ARGUMENT"),
    "no such model": (Request(model=servable_pb2.ModelSpec(name="nobody"), packed=packed(1)), "NOT_FOUND"),
}


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """URL of an empty page, whose origin Envoy lets call."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("models"), 3, "--lame-duck-s", "0", "--executor-count", "8") as running:
        yield running


@pytest.fixture(scope="module")
def envoy(servers: Servers, page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with Envoy(servers.addresses, tmp_path_factory.mktemp("envoy"), origin=page) as proxy:
        proxy.wait_for_servers(servers.addresses)
        yield proxy


@pytest.fixture
def proxied(envoy: Envoy) -> Iterator[Any]:
    with grpc.insecure_channel(envoy.address) as channel:
        yield emotion_grpc.EmotionServiceStub(channel)


def failure_of(stub: Any, request: emotion_pb2.ClassifyFacesRequest) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ClassifyFaces(request, timeout=TIMEOUT_S)
    return caught.value


def test_the_configuration_is_valid_as_it_stands() -> None:
    done = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", CONFIGURATION], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_calls_reach_every_server(servers: Servers, envoy: Envoy, proxied: Any) -> None:
    before = {address: envoy.calls_to(address) for address in servers.addresses}

    def every_server_has_calls() -> bool:
        answers = [pool.submit(proxied.ClassifyFaces, Request(packed=packed(1, 2))) for _ in range(60)]
        assert [classes_of(answer.result()) for answer in answers] == [[1, 2]] * 60
        return all(envoy.calls_to(address) > before[address] for address in servers.addresses)

    with ThreadPoolExecutor(12) as pool:
        # Its worker thread learns of healthy servers a moment later than the one that answers here.
        envoy.wait_until(every_server_has_calls, "has sent calls to every server")


@pytest.mark.parametrize(("request_", "code"), REJECTED.values(), ids=REJECTED)
def test_statuses_and_their_details_arrive_unchanged(
    servers: Servers, envoy: Envoy, proxied: Any, request_: emotion_pb2.ClassifyFacesRequest, code: str
) -> None:
    retries = envoy.counter("upstream_rq_retry")
    with grpc.insecure_channel(servers.addresses[0]) as channel:
        direct = failure_of(emotion_grpc.EmotionServiceStub(channel), request_)
    through = failure_of(proxied, request_)
    assert through.code().name == code
    assert rejection_of(through) == rejection_of(direct)
    assert rejection_of(through).reason
    assert {key for key, _ in direct.trailing_metadata()} <= {key for key, _ in through.trailing_metadata()}
    assert envoy.counter("upstream_rq_retry") == retries


def test_a_face_that_crashes_an_engine_meets_one_server_only(servers: Servers, envoy: Envoy, proxied: Any) -> None:
    engines = {address: _engine_of(servers, address) for address in servers.addresses}
    retries = envoy.counter("upstream_rq_retry")
    rejection = rejection_of(failure_of(proxied, special(CRASH)))
    assert (rejection.reason, rejection.metadata["retry_safe"]) == ("ENGINE_LOST", "false")
    assert envoy.counter("upstream_rq_retry") == retries
    envoy.wait_until(
        lambda: sum(_engine_of(servers, each) not in (None, engines[each]) for each in servers.addresses) == 1,
        "sees that the one engine is back",
    )


def test_a_call_that_one_server_safely_rejects_is_answered_by_another(
    servers: Servers, envoy: Envoy, proxied: Any
) -> None:
    without, *others = servers.addresses
    request = Request(model=servable_pb2.ModelSpec(name="late"), packed=packed(3))
    publish_fake(servers.repositories[without], "late", golden_off_by=0.5)  # it is rejected, and never ready
    for address in others:
        publish_fake(servers.repositories[address], "late")
    for address in others:
        with grpc.insecure_channel(address) as channel:
            stub = emotion_grpc.EmotionServiceStub(channel)
            envoy.wait_until(partial(_is_answered, stub, request), "finds the model ready on two servers")
    with grpc.insecure_channel(without) as channel:
        stub = emotion_grpc.EmotionServiceStub(channel)
        envoy.wait_until(lambda: _reason_of(stub, request) == "MODEL_NOT_READY", "is rejected by the third")
    envoy.wait_for_servers(servers.addresses)
    retries = envoy.counter("upstream_rq_retry_success")

    def one_call_was_sent_again() -> bool:
        assert classes_of(proxied.ClassifyFaces(request, timeout=TIMEOUT_S)) == [3]
        return envoy.counter("upstream_rq_retry_success") > retries

    envoy.wait_until(one_call_was_sent_again, "sends a rejected call to another server")


def test_a_server_whose_engine_hangs_gets_no_calls_until_it_is_healed(
    servers: Servers, envoy: Envoy, proxied: Any
) -> None:
    envoy.wait_for_servers(servers.addresses)
    hanging = servers.addresses[1]
    ejections = envoy.counter("outlier_detection.ejections_enforced_total")
    engine = _engine_of(servers, hanging)
    assert engine is not None
    request = Request(packed=packed(1))
    os.kill(engine, signal.SIGSTOP)
    with ThreadPoolExecutor(24) as pool:
        calls = [pool.submit(_reason_of, proxied, request) for _ in range(24)]
        outcomes = [call.result() for call in calls]
        # Found by the errors in a row, before the next question about health.
        assert envoy.counter("outlier_detection.ejections_enforced_total") == ejections + 1
        assert "ENGINE_STALLED" in outcomes
        assert set(outcomes) <= {None, "ENGINE_STALLED", "ENGINE_LOST"}
        assert outcomes.count(None) >= 12
        assert [pool.submit(_reason_of, proxied, request).result() for _ in range(12)] == [None] * 12
    envoy.wait_for_servers(servers.addresses)
    assert _engine_of(servers, hanging) not in (None, engine)


@pytest.mark.skipif(
    BROWSER_MISSING and not os.environ.get("FERSERVE_BROWSER_TESTS"),
    reason="needs Debian's chromium, node, and `make browser-tools`",
)
def test_a_page_calls_by_grpc_web(envoy: Envoy, page: str) -> None:
    good = base64.b64encode(Request(packed=packed(4, 5)).SerializeToString()).decode()
    bad = base64.b64encode(REJECTED["no such model"][0].SerializeToString()).decode()
    foreign = page.replace("127.0.0.1", "localhost")
    done = subprocess.run(
        [
            "node",
            "grpc_web.mjs",
            f"http://{envoy.address}",
            "/ferserve.v1.EmotionService/ClassifyFaces",
            f"{page}={good}",
            f"{page}={bad}",
            f"{foreign}={good}",
        ],
        cwd=BROWSER_TESTS,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answered, rejected, stranger = json.loads(done.stdout)
    assert "answer" in answered, answered
    answer = emotion_pb2.ClassifyFacesResponse.FromString(base64.b64decode(answered["answer"]))
    assert classes_of(answer) == [4, 5]
    assert rejected["code"] == grpc.StatusCode.NOT_FOUND.value[0]
    padded = rejected["metadata"]["grpc-status-details-bin"] + "=="
    details = status_pb2.Status.FromString(base64.b64decode(padded))
    info = error_details_pb2.ErrorInfo()
    assert details.details[0].Unpack(info)
    assert (info.reason, info.metadata["model"]) == ("MODEL_NOT_FOUND", "nobody")
    assert "answer" not in stranger, stranger


def _reason_of(stub: Any, request: emotion_pb2.ClassifyFacesRequest) -> str | None:
    """The reason of a call's failure; None if it is answered."""
    try:
        stub.ClassifyFaces(request, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return rejection_of(error).reason
    return None


def _engine_of(servers: Servers, address: str) -> int | None:
    engines = children(ENGINE, of=servers.running[address].process.pid)
    return next((pid for pid, state in engines.items() if state != "Z"), None)


def _is_answered(stub: Any, request: emotion_pb2.ClassifyFacesRequest) -> bool:
    return _reason_of(stub, request) is None
