"""Tests `ferserve watch` against a scripted server: sources, times, damage, several sources, lost servers."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from typer.testing import CliRunner

from ferserve.v1 import failure_pb2
from ferserve_client.cli import app
from support.scripted_server import DRAINING, Rejection, ScriptedServer, serve
from support.videos import cut_off, punch_hole, write_video

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME_COUNT = 12
TIMES_S = [number / 10 for number in range(FRAME_COUNT)]
PROGRAM = "from ferserve_client.cli import main\nmain()\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Twelve frames, ten a second."""
    path = tmp_path / "video.mp4"
    write_video(path, TIMES_S)
    return str(path)


class Ran:
    """What `ferserve watch` printed and how it ended."""

    def __init__(self, *arguments: str, server: str) -> None:
        result = CliRunner().invoke(app, ["watch", *arguments], env={"FERSERVE_SERVER": server})
        self.exit_code = result.exit_code
        self.stdout = result.stdout
        self.complaints = result.stderr.splitlines()
        self.error = result.exception if not isinstance(result.exception, SystemExit) else None

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def sequence_ids(self) -> list[int]:
        return [record["sequence_id"] for record in self.records]


def frames_of(server: ScriptedServer) -> list[Any]:
    return [each.frame for each in server.requests["StreamFrames"] if each.HasField("frame")]


def configs_of(server: ScriptedServer) -> list[Any]:
    return [each.config for each in server.requests["StreamFrames"] if each.HasField("config")]


def test_every_frame_of_a_file_is_answered_in_the_pixels_of_the_source(server: ScriptedServer, video: str) -> None:
    ran = Ran(video, "--json", "--max-side", "160", server=server.address)

    assert (ran.exit_code, ran.complaints, ran.error) == (0, [], None)
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    # The script finds a face in a frame of 640 x 480; the source is half as large.
    assert {(record["width"], record["height"]) for record in ran.records} == {(320, 240)}
    assert ran.records[0]["faces"][0]["box"] == {"left": 5, "top": 10, "width": 15, "height": 20}
    assert ran.records[0]["events"][0]["event"] == "appeared"
    (config,) = configs_of(server)
    assert (config.overload_policy, config.tracking.enabled) == (2, True)


def test_times_are_those_of_the_container(server: ScriptedServer, tmp_path: Path) -> None:
    times_s = [0.0, 0.033, 0.066, 0.1, 1.5, 2.0, 2.5, 5.0]
    write_video(tmp_path / "variable.mp4", times_s)

    ran = Ran(str(tmp_path / "variable.mp4"), "--json", server=server.address)

    assert ran.exit_code == 0
    assert [record["time_s"] for record in ran.records] == pytest.approx(times_s, abs=0.001)
    assert [frame.time_s for frame in frames_of(server)] == pytest.approx(times_s, abs=0.001)


def test_options_of_the_search_and_of_tracking_reach_the_server(server: ScriptedServer, video: str) -> None:
    options = ["--detector", "yunet", "--score-threshold", "0.8", "--min-face", "24", "--tiles", "--no-tracking"]

    ran = Ran(video, *options, "--policy", "max_age", "--max-age", "500", server=server.address)

    assert ran.exit_code == 0
    (config,) = configs_of(server)
    assert (config.detection.detector, config.detection.min_face_pixels, config.detection.tiles) == (2, 24, True)
    assert config.detection.score_threshold == pytest.approx(0.8)
    assert (config.max_age_ms, config.tracking.enabled) == (500, False)


def test_several_sources_are_watched_together(server: ScriptedServer, video: str, tmp_path: Path) -> None:
    other, table = tmp_path / "other.mp4", tmp_path / "faces.csv"
    write_video(other, TIMES_S[:5])

    ran = Ran(video, str(other), "--csv", str(table), server=server.address)

    assert (ran.exit_code, ran.complaints) == (0, [])
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for source, count in ((video, FRAME_COUNT), (str(other), 5)):
        assert [row["sequence_id"] for row in rows if row["source"] == source] == [str(n) for n in range(count)]
    assert ran.stdout.splitlines()[0].split() == [
        "source", "frames", "analyzed", "dropped", "failed", "faces", "emotions",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"this is no video"])
def test_a_source_that_is_no_video_is_one_line_and_its_neighbour_is_answered(
    server: ScriptedServer, video: str, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)

    ran = Ran(str(path), video, "--json", server=server.address)

    assert (ran.exit_code, ran.error) == (1, None)
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    assert len(ran.complaints) == 1
    assert str(path) in ran.complaints[0]


def test_a_hole_in_a_file_is_reported_and_the_frames_behind_it_are_answered(
    server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "hole.mp4"
    write_video(path, [number / 30 for number in range(60)])
    punch_hole(path)

    ran = Ran(str(path), "--json", server=server.address)

    assert ran.exit_code == 1
    assert 30 < len(ran.records) < 61
    assert ran.records[-1]["time_s"] > 1.8
    assert len(ran.complaints) == 1
    assert "the video is damaged" in ran.complaints[0]


def test_a_file_that_is_cut_off_says_how_much_is_missing(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "cut.avi"
    write_video(path, [number / 30 for number in range(20)], codec="mjpeg")
    cut_off(path)

    ran = Ran(str(path), "--json", server=server.address)

    missing = 20 - len(ran.records)
    assert ran.exit_code == 1
    assert 5 < missing < 15
    assert f"{missing} frames could not be read" in ran.complaints[0]


def test_a_frame_that_fails_makes_the_exit_code_1(server: ScriptedServer, video: str) -> None:
    server.break_frames = {3}

    ran = Ran(video, "--json", server=server.address)

    assert ran.exit_code == 1
    assert [record["sequence_id"] for record in ran.records if "failure" in record] == [3]


def test_frames_that_come_too_late_are_dropped_before_they_are_sent(server: ScriptedServer, video: str) -> None:
    server.frame_delay_s = 0.25

    ran = Ran(video, "--json", "--policy", "latest", server=server.address)

    assert ran.exit_code == 0
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    dropped = [record["sequence_id"] for record in ran.records if record["dropped"]]
    assert dropped
    assert [frame.sequence_id for frame in frames_of(server)] == [
        n for n in range(FRAME_COUNT) if n not in dropped
    ]
    assert configs_of(server)[0].overload_policy == 1


@pytest.mark.parametrize(
    "rejection",
    [DRAINING, Rejection(grpc.StatusCode.UNAVAILABLE, ""), Rejection(grpc.StatusCode.INTERNAL, "", "RST_STREAM")],
)
def test_a_file_goes_on_where_a_server_left_it(server: ScriptedServer, video: str, rejection: Rejection) -> None:
    server.end_stream_after, server.stream_rejection, server.ended_streams = 5, rejection, 1

    ran = Ran(video, "--json", server=server.address)

    assert ran.exit_code == 0
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    first, second = configs_of(server)
    assert (first.HasField("resumed_after_sequence_id"), second.resumed_after_sequence_id) == (False, 4)
    assert [record["sequence_id"] for record in ran.records if record["tracks_restarted"]] == [5]
    assert "lost the server" in ran.complaints[0]


def failure(code: int, reason: str) -> failure_pb2.Failure:
    return failure_pb2.Failure(code=code, reason=reason, message="for now")


def test_a_frame_that_fails_for_now_is_sent_again(server: ScriptedServer, video: str) -> None:
    server.failing_frames = {3: [failure(14, "MODEL_NOT_READY")] * 2}

    ran = Ran(video, "--json", server=server.address)

    assert ran.exit_code == 0
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    assert len(configs_of(server)) == 3


def test_a_frame_that_takes_the_engine_down_each_time_fails_alone(server: ScriptedServer, video: str) -> None:
    server.failing_frames = {3: [failure(14, "ENGINE_LOST")] * 9}

    ran = Ran(video, "--json", server=server.address)

    assert ran.exit_code == 1
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    assert [record["sequence_id"] for record in ran.records if "failure" in record] == [3]
    assert len(server.failing_frames[3]) == 6


def test_a_killed_server_that_comes_back_costs_no_frame(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = tmp_path / "long.mp4"
    write_video(path, [number / 30 for number in range(90)])
    serving = [sys.executable, str(Path(__file__).parents[1] / "support" / "scripted_child.py"), str(port), "0.02"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        watching = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "watch", str(path), "--json", "--server", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(20)]
        first.kill()
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as second, watching:
        rest, complaints = watching.communicate(timeout=60.0)
        second.kill()

    assert watching.returncode == 0, complaints
    assert [json.loads(line)["sequence_id"] for line in [*lines, *rest.splitlines()]] == list(range(90))


def test_a_server_that_hangs_is_left_for_a_new_connection(server: ScriptedServer, video: str) -> None:
    server.hang_streams = 1

    ran = Ran(video, "--json", "--timeout", "0.5", server=server.address)

    assert ran.exit_code == 0
    assert ran.sequence_ids == list(range(FRAME_COUNT))
    assert "a frame was not answered in time" in ran.complaints[0]


def test_a_server_that_stays_away_is_given_up(server: ScriptedServer, video: str) -> None:
    server.end_stream_after, server.stream_rejection = 0, DRAINING

    ran = Ran(video, "--json", "--patience", "0.2", server=server.address)

    assert (ran.exit_code, ran.records) == (1, [])
    assert "shutting down" in ran.complaints[-1]


def test_a_model_that_is_not_there_is_reported_at_once_with_the_nearest_name(
    server: ScriptedServer, video: str
) -> None:
    missing = Rejection(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "no model 'fer-nan'.", {"model": "fer-nan"})
    server.rejections["StreamFrames"].append(missing)

    ran = Ran(video, "--model", "fer-nan", server=server.address)

    assert ran.exit_code == 1
    assert any("no model 'fer-nan'. Did you mean fer-nano?" in line for line in ran.complaints)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_summary_and_whole_outputs(
    server: ScriptedServer, video: str, tmp_path: Path, number: signal.Signals
) -> None:
    server.frame_delay_s = 0.1
    table = tmp_path / "faces.csv"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "watch", video, "--csv", str(table)],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert server.stream_began.wait(60.0)
        watching.send_signal(number)
        shown, complaints = watching.communicate(timeout=20.0)

    assert watching.returncode == 128 + number, complaints
    assert complaints == ""
    assert "analyzed" in shown
    assert table.read_text("utf-8").endswith("\n")


def test_ctrl_c_ends_it_although_the_server_hangs(server: ScriptedServer, video: str) -> None:
    server.unblocked.clear()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "watch", video, "--json"],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert server.stream_began.wait(60.0)
        watching.send_signal(signal.SIGINT)
        _, complaints = watching.communicate(timeout=30.0)

    assert watching.returncode == 130, complaints
    assert "Traceback" not in complaints


@pytest.mark.parametrize(("module", "extra"), [("cv2", "video"), ("av", "media")])
def test_a_missing_library_is_named_with_its_extra(
    server: ScriptedServer, video: str, module: str, extra: str
) -> None:
    program = f"import sys\nsys.modules[{module!r}] = None\n{PROGRAM}"

    ran = subprocess.run(
        [sys.executable, "-c", program, "watch", video, "--server", server.address],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("ferserve: this needs ")
    assert f"install ferserve-client[{extra}]" in ran.stderr


def test_options_that_do_not_go_together_are_misuse(server: ScriptedServer, video: str) -> None:
    assert Ran(video, "--max-age", "100", server=server.address).exit_code == 2
    assert Ran(video, "--policy", "max_age", server=server.address).exit_code == 2
