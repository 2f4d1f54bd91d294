"""Calls servers without pause from threads, and counts what becomes of each call."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_client import EmotionClient, FerserveError
from ferserve_server.interop.messages import message_class

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

PAUSE_S: Final = 0.005
TIMEOUT_S: Final = 20.0
FACES: Final = np.zeros((1, 48, 48), np.uint8)
_PACKED: Final = face_pb2.PackedFaces(pixels=FACES.tobytes(), face_count=1)
CLASSIFY: Final = emotion_pb2.ClassifyFacesRequest(packed=_PACKED).SerializeToString()
ROUND_ROBIN: Final = '{"loadBalancingConfig": [{"round_robin": {}}]}'
WITH_HEALTH: Final = '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}'


class Callers:
    """Runs callers until the block is left.

    Attributes:
        outcomes: Number of calls by outcome, `OK` or what went wrong, by caller.
    """

    def __init__(
        self, calls: dict[str, Callable[[], contextlib.AbstractContextManager[Callable[[], str]]]]
    ) -> None:
        self.outcomes: dict[str, Counter[str]] = {name: Counter() for name in calls}
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=item) for item in calls.items()]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def summary(self) -> dict[str, dict[str, int]]:
        """Returns the outcomes as plain dictionaries."""
        return {name: dict(sorted(counts.items())) for name, counts in self.outcomes.items()}

    def _run(self, name: str, opened: Callable[[], contextlib.AbstractContextManager[Callable[[], str]]]) -> None:
        with opened() as call:
            while not self._stopped.is_set():
                self.outcomes[name][call()] += 1
                time.sleep(PAUSE_S)


@contextlib.contextmanager
def _raw_grpc(addresses: Sequence[str], service_config: str, path: str, request: bytes) -> Any:  # noqa: ANN401 - an iterator of calls
    options = [("grpc.service_config", service_config), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"ipv4:{','.join(addresses)}", options) as channel:
        method: Any = channel.unary_unary(path)

        def call() -> str:
            try:
                method(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                return _outcome_of(error)
            return "OK"

        yield call


def _outcome_of(error: Any) -> str:  # noqa: ANN401 - an RpcError is a call too
    code: str = error.code().name
    with contextlib.suppress(ValueError):
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return f"{code} {info.reason}"
    return code


def classify(addresses: Sequence[str], *, health_checks: bool = False) -> Any:  # noqa: ANN401 - as above
    """Opens ClassifyFaces by gRPC's round_robin without retries."""
    config = WITH_HEALTH if health_checks else ROUND_ROBIN
    return lambda: _raw_grpc(addresses, config, "/ferserve.v1.EmotionService/ClassifyFaces", CLASSIFY)


def open_inference(addresses: Sequence[str]) -> Any:  # noqa: ANN401 - as above
    """Opens ModelInfer, likewise."""
    request = message_class("inference.ModelInferRequest")(
        model_name="fer-nano", raw_input_contents=[FACES.tobytes()]
    )
    request.inputs.add(name="faces", datatype="UINT8", shape=[1, 48, 48, 1])
    path, message = "/inference.GRPCInferenceService/ModelInfer", request.SerializeToString()
    return lambda: _raw_grpc(addresses, ROUND_ROBIN, path, message)


def own_client(addresses: Sequence[str]) -> Any:  # noqa: ANN401 - as above
    """Opens the project's client with several addresses and its defaults."""

    @contextlib.contextmanager
    def opened() -> Any:  # noqa: ANN401 - as above
        with EmotionClient(",".join(addresses)) as client:

            def call() -> str:
                try:
                    client.classify(FACES)
                except FerserveError as error:
                    return type(error).__name__
                return "OK"

            yield call

    return opened


def http_post(addresses: Sequence[str], path: str, body: bytes | None) -> Any:  # noqa: ANN401 - as above
    """Opens kept-alive HTTP connections, used alternately; one that does not accept is passed over."""

    @contextlib.contextmanager
    def opened() -> Any:  # noqa: ANN401 - as above
        kept: dict[str, http.client.HTTPConnection] = {}
        next_one = 0

        def call() -> str:
            nonlocal next_one
            for _ in addresses:
                next_one += 1
                address = addresses[next_one % len(addresses)]
                connection = kept.get(address)
                if connection is None:
                    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
                    try:
                        connection.connect()
                    except OSError:
                        continue
                    kept[address] = connection
                outcome = _answer(connection, path, body)
                if outcome is None or connection.sock is None:
                    kept.pop(address, None)
                if outcome is not None:
                    return outcome
                return "reset"
            return "none listens"

        yield call
        for connection in kept.values():
            connection.close()

    return opened


def _answer(connection: http.client.HTTPConnection, path: str, body: bytes | None) -> str | None:
    """Sends one request; None if the connection was lost with it."""
    try:
        connection.request("GET" if body is None else "POST", path, body)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None
    return "OK" if response.status == 200 else str(response.status)
