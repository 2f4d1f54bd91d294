"""Tests `ferserve bench` against a scripted server."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from typer.testing import CliRunner

from ferserve_client import NO_RETRIES, AsyncEmotionClient
from ferserve_client.bench.loads import Load, run_load
from ferserve_client.bench.workloads import Workload
from ferserve_client.cli import app
from support.scripted_server import BROKEN, Rejection, ScriptedServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

SHORT = ["--duration", "0.5", "--warmup", "0.1"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\x03picture")
    return str(path)


def bench(*arguments: str, server: ScriptedServer) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments, *SHORT], env={"FERSERVE_SERVER": server.address})


def loads_of(ran: Result) -> list[dict[str, Any]]:
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return json.loads(ran.stdout)["loads"]


@pytest.mark.parametrize("call", ["classify", "analyze", "classify_stream", "stream_frames"])
@pytest.mark.parametrize("rate", [[], ["--rate", "40"]])
def test_every_call_is_measured_in_both_loops(
    server: ScriptedServer, picture: str, call: str, rate: list[str]
) -> None:
    options = ["--image", picture, "--faces", "3", "--images-per-call", "2", "--concurrency", "2"]

    ran = bench(call, *options, *rate, "--json", server=server)

    assert ran.exit_code == 0
    (load,) = loads_of(ran)
    items = {"classify": 3, "classify_stream": 3, "analyze": 2, "stream_frames": 1}[call]
    assert load["items_per_s"] == pytest.approx(items * load["calls_per_s"], rel=0.01)
    assert load["outcomes"]["OK"] > 5
    assert load["latencies_ms"]["p50"] <= load["latencies_ms"]["p99"] <= load["latencies_ms"]["max"]
    assert load["offered_rate"] == (40.0 if rate else None)


def test_failures_are_counted_by_reason_and_fail_the_command(server: ScriptedServer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(BROKEN)

    ran = bench("analyze", "--image", str(broken), "--json", server=server)

    assert ran.exit_code == 1
    assert set(loads_of(ran)[0]["outcomes"]) == {"IMAGE_UNREADABLE"}
    assert "failures: IMAGE_UNREADABLE" in ran.stderr


def test_failures_are_not_retried(server: ScriptedServer) -> None:
    server.rejections["ClassifyFaces"].extend([Rejection(grpc.StatusCode.UNAVAILABLE, "MODEL_NOT_READY")] * 3)

    ran = CliRunner().invoke(
        app,
        ["bench", "--json", "--duration", "0.5", "--warmup", "0"],
        env={"FERSERVE_SERVER": server.address},
    )

    assert loads_of(ran)[0]["outcomes"]["MODEL_NOT_READY"] == 3


def test_a_stall_delays_every_call_that_was_due_in_it() -> None:
    """The time in which the server stands still is in the latency of all calls scheduled then."""

    async def measure(server: ScriptedServer) -> dict[str, float]:
        load = Load(Workload("stream_frames", images=(b"\x03",)), 2.0, 0.2, 1, rate=100.0, arrivals="constant")
        threading.Timer(0.7, server.unblocked.clear).start()
        threading.Timer(1.7, server.unblocked.set).start()
        found = await run_load(load, lambda: AsyncEmotionClient(server.address, retry=NO_RETRIES))
        assert found.ok_count == pytest.approx(200, abs=3)
        return found.latencies_ms

    with serve() as server:
        latencies = asyncio.run(measure(server))

    # Half of the frames were due in the second of the stall, and waited 0.5 s in the mean.
    assert latencies["mean"] > 200
    assert latencies["p90"] > 700


def test_the_capacity_under_a_bound_is_found_and_shown(
    server: ScriptedServer, picture: str, tmp_path: Path
) -> None:
    server.image_delay_s = 0.02  # eight threads of the server: 400 calls a second
    page = tmp_path / "a.html"

    ran = bench(
        "analyze", "--image", picture, "--find-capacity", "--p99", "1000", "--html", str(page), "--json",
        server=server,
    )  # fmt: skip

    assert ran.exit_code == 0
    found = json.loads(ran.stdout)
    assert 10 < found["capacity"] < 1000
    assert found["bound"] == "p99 1000 ms"
    assert len(found["loads"]) > 2
    assert "capacity" in page.read_text("utf-8")


def test_without_a_server_it_is_one_line() -> None:
    ran = CliRunner().invoke(app, ["bench", "--server", "127.0.0.1:1", "--timeout", "0.5"])

    assert ran.exit_code == 1
    assert ran.stderr.startswith("ferserve: no server answers at 127.0.0.1:1")


def test_pictures_must_be_named(server: ScriptedServer) -> None:
    ran = bench("analyze", server=server)

    assert ran.exit_code == 2
    assert "--image" in ran.stderr
