"""Tests servers as replicas of Ray Serve, on a real cluster of several nodes on this machine."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc as emotion_grpc
from ferserve.v1 import servable_pb2
from ferserve_client import RetryPolicy
from support.engine_children import SLOW, special_face
from support.local_server import classes_of, packed, rejection_of
from support.ray_servers import RAY_PYTHON, RayServers
from support.rolling import Callers, free_address

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not RAY_PYTHON.exists(), reason="needs the environment of deploy/ray (make ray-env)"),
]

Request = emotion_pb2.ClassifyFacesRequest
MISSING = Request(model=servable_pb2.ModelSpec(name="nobody"), packed=packed(1))
METHOD = [("application", "ferserve")]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def proxy() -> str:
    return free_address()


@pytest.fixture(scope="module")
def cluster(proxy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServers]:
    """Two servers on three nodes, up to three by the age of their queues."""
    port = int(proxy.rpartition(":")[2])
    flags = ("--lame-duck-s", "1")
    folder = tmp_path_factory.mktemp("ray")
    with RayServers(folder, *flags, min_replicas=2, max_replicas=3, node_count=3, proxy=port) as running:
        running.wait_until(lambda servers: len(servers) == 2, "two servers are found")
        yield running


def test_every_server_is_found_and_answers_at_an_address_of_its_own(cluster: RayServers) -> None:
    addresses = cluster.addresses()
    assert len(set(addresses)) == 2
    for address in addresses:
        with grpc.insecure_channel(address) as channel:
            answer = emotion_grpc.EmotionServiceStub(channel).ClassifyFaces(Request(packed=packed(2, 6)))
            assert classes_of(answer) == [2, 6]


def test_answers_and_statuses_through_rays_proxy_are_those_of_the_server(cluster: RayServers, proxy: str) -> None:
    with grpc.insecure_channel(proxy) as channel, grpc.insecure_channel(cluster.addresses()[0]) as own:
        through, direct = (emotion_grpc.EmotionServiceStub(each) for each in (channel, own))
        answer = through.ClassifyFaces(Request(packed=packed(2, 6)), metadata=METHOD, timeout=TIMEOUT_S)
        assert classes_of(answer) == [2, 6]
        rejected = []
        for stub in (through, direct):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ClassifyFaces(MISSING, metadata=METHOD, timeout=TIMEOUT_S)
            rejected.append(rejection_of(caught.value))
    assert rejected[0] == rejected[1]
    assert (rejected[0].code, rejected[0].reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_a_server_that_is_killed_comes_back_at_its_address(cluster: RayServers) -> None:
    victim = cluster.servers()[0]
    with _callers(cluster) as callers:
        callers.wait_for(20)
        os.kill(victim["pid"], signal.SIGKILL)
        after = cluster.wait_until(
            lambda servers: any(each["pid"] != victim["pid"] and _same(each, victim) for each in servers),
            "the server is back",
        )
        callers.wait_for(20)
    assert callers.errors == []
    (back,) = (each for each in after if _same(each, victim))
    assert back["start_count"] == victim["start_count"] + 1


def test_old_queues_bring_another_server_and_short_ones_take_it_away(cluster: RayServers) -> None:
    slow = special_face(SLOW)[None]
    with Callers(",".join(cluster.addresses()), count=48, pause_s=0.0, face=slow, retry=RetryPolicy()) as callers:
        cluster.wait_until(lambda servers: len(servers) == 3, "there are three servers")
    answered = callers.answered
    with _callers(cluster) as callers:
        cluster.wait_until(lambda servers: len(servers) == 2, "there are two servers again")
        callers.wait_for(20)
    assert answered > 0
    assert callers.errors == []


def test_a_killed_node_loses_no_call_and_its_server_is_replaced(cluster: RayServers) -> None:
    before = cluster.wait_until(lambda servers: len(servers) == 2, "there are two servers")
    lost = before[0]
    gone = {each["address"] for each in before if each["node_id"] == lost["node_id"]}
    survivor = next((each for each in before if each["address"] not in gone), None)
    if survivor is None:
        pytest.skip("Ray has put both servers on one node")
    with _callers(cluster) as callers:
        callers.wait_for(20)
        cluster.kill_node(lost["node_id"])
        after = cluster.wait_until(
            lambda servers: len(servers) == 2 and all(each["node_id"] != lost["node_id"] for each in servers),
            "the server is replaced",
        )
        callers.wait_for(20)
    assert callers.errors == []
    assert survivor["address"] in {each["address"] for each in after}
    with pytest.raises(ProcessLookupError):
        os.kill(lost["pid"], 0)


def _callers(cluster: RayServers) -> Callers:
    """Calls all servers that are registered now, and tries again where that is safe."""
    return Callers(",".join(cluster.addresses()), retry=RetryPolicy())


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["address"] == other["address"])
