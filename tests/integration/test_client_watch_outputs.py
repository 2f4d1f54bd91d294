"""Tests the outputs of `ferserve watch`, and its behaviour when one, or a name, or a live source, fails."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from support.scripted_server import ScriptedServer, serve
from support.videos import write_video

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
    path = tmp_path / "video.mp4"
    write_video(path, TIMES_S, sound=True)
    return str(path)


def watch(
    *arguments: str | bytes, server: ScriptedServer, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "watch", *arguments],
        env={**os.environ, "FERSERVE_SERVER": server.address, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=cwd,
    )


def streams_of(path: Path) -> dict[str, tuple[str, int]]:
    """Codec and decodable frames of each kind of stream."""
    found = {}
    for kind in ("video", "audio"):
        with av.open(str(path)) as container:
            streams = container.streams.get({kind: 0}) if getattr(container.streams, kind) else []
            for stream in streams:
                count = 0
                # The last fragment of a writer that was killed may be cut off, at which players end.
                with contextlib.suppress(av.error.InvalidDataError):
                    for _ in container.decode(stream):
                        count += 1
                found[kind] = (stream.codec_context.name, count)
    return found


def test_a_saved_video_is_h264_with_the_sound_of_the_source(
    server: ScriptedServer, video: str, tmp_path: Path
) -> None:
    ran = watch(video, "--save", "out.mp4", server=server, cwd=tmp_path)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert streams_of(tmp_path / "out.mp4")["video"] == ("h264", FRAME_COUNT)
    assert streams_of(tmp_path / "out.mp4")["audio"][0] == "aac"
    with av.open(str(tmp_path / "out.mp4")) as container:
        times_s = [frame.time for frame in container.decode(video=0)]
    # MP4 delays pictures and sound alike by the start of the AAC encoder: 1024 samples.
    assert [time_s - 1024 / 16_000 for time_s in times_s[1:]] == pytest.approx(TIMES_S[1:], abs=0.002)


def test_a_saved_video_plays_in_a_browser(server: ScriptedServer, video: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    assert watch(video, "--save", "out.mp4", server=server, cwd=tmp_path).returncode == 0
    (tmp_path / "page.html").write_text(
        "<video src=out.mp4 muted autoplay></video><script>"
        "const v = document.querySelector('video');"
        "v.onended = () => fetch('/said?ended+' + v.currentTime.toFixed(1) + '+' + v.videoWidth);"
        "v.onerror = () => fetch('/said?' + v.error.message);"
        "</script>"
    )
    said: queue.Queue[str] = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/said?"):
                said.put(self.path.partition("?")[2])
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        with subprocess.Popen(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
             "--autoplay-policy=no-user-gesture-required", f"http://127.0.0.1:{files.server_port}/page.html"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as browser:  # fmt: skip
            try:
                heard = said.get(timeout=60.0)
            finally:
                browser.terminate()
        files.shutdown()

    assert heard in {"ended+1.2+320", "ended+1.1+320"}


def test_a_frame_without_an_answer_of_its_own_keeps_the_boxes_of_the_last(
    server: ScriptedServer, video: str, tmp_path: Path
) -> None:
    server.drop = {4, 5}
    assert watch(video, "--save", "out.mp4", server=server, cwd=tmp_path).returncode == 0
    with av.open(str(tmp_path / "out.mp4")) as saved, av.open(video) as original:
        for number, (drawn, plain) in enumerate(zip(saved.decode(video=0), original.decode(video=0), strict=True)):
            if number in {3, 4, 5, 6}:
                box = (slice(10, 32), slice(4, 22))  # the face's box and the edge around it
                difference = (
                    drawn.to_ndarray(format="gray")[box].astype(int) - plain.to_ndarray(format="gray")[box]
                )
                assert np.abs(difference).mean() > 15, number


def test_a_command_that_is_killed_leaves_a_video_that_plays_and_whole_lines(
    server: ScriptedServer, tmp_path: Path
) -> None:
    write_video(tmp_path / "long.mp4", [number / 30 for number in range(300)])
    server.frame_delay_s = 0.01
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "watch", "long.mp4", "--save", "out.mp4", "--csv", "faces.csv", "--json"],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as watching:
        assert watching.stdout is not None
        for _ in range(150):
            watching.stdout.readline()
        watching.send_signal(signal.SIGKILL)

    assert streams_of(tmp_path / "out.mp4")["video"][1] > 20
    assert (tmp_path / "faces.csv").read_text("utf-8").endswith("\n")


def test_tables_plot_and_report_tell_the_same(server: ScriptedServer, video: str, tmp_path: Path) -> None:
    files = ["--csv", "a.csv", "--parquet", "a.parquet", "--plot", "a.png", "--report", "a.html"]

    ran = watch(video, *files, server=server, cwd=tmp_path)

    assert (ran.returncode, ran.stderr) == (0, "")
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (
        [int(row["sequence_id"]) for row in rows]
        == [row["sequence_id"] for row in table]
        == list(range(FRAME_COUNT))
    )
    assert [float(row["time_s"]) for row in rows] == pytest.approx(TIMES_S, abs=0.001)
    assert {row["track_id"] for row in table} == {1}
    assert not list(tmp_path.glob("*.partial"))
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] > 900
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 1
    assert f"{FRAME_COUNT} frames, {FRAME_COUNT} of them analysed" in page
    assert "://" not in page  # nothing from elsewhere


def test_a_report_without_thumbnails_shows_no_face(server: ScriptedServer, video: str, tmp_path: Path) -> None:
    assert watch(video, "--report", "a.html", "--no-thumbnails", server=server, cwd=tmp_path).returncode == 0
    assert "data:image" not in (tmp_path / "a.html").read_text("utf-8")


@pytest.mark.parametrize("option", ["--csv", "--save"])
def test_an_output_that_is_its_own_input_is_misuse_and_harms_nothing(
    server: ScriptedServer, video: str, tmp_path: Path, option: str
) -> None:
    before = Path(video).read_bytes()
    (tmp_path / "link.mp4").symlink_to(video)

    for name in (video, "link.mp4"):
        assert watch(video, option, name, server=server, cwd=tmp_path).returncode == 2
    assert Path(video).read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")
@pytest.mark.parametrize("option", ["--csv", "--report", "--save"])
def test_a_full_disk_is_one_line_and_the_other_outputs_are_whole(
    server: ScriptedServer, video: str, tmp_path: Path, option: str
) -> None:
    full = tmp_path / "full.mp4"
    full.symlink_to("/dev/full")

    ran = watch(video, option, str(full), "--parquet", "a.parquet", server=server, cwd=tmp_path)

    assert ran.returncode == 1
    assert ran.stderr == f"ferserve: {full}: cannot be written: No space left on device\n"
    assert pq.read_table(tmp_path / "a.parquet").num_rows == FRAME_COUNT


@pytest.mark.parametrize(
    "name", [b"v\xff.mp4", b"2026-01-01T10:00:00.mp4", "Gesicht ä.mp4".encode(), b"http:x.mp4"]
)
def test_every_name_of_a_file_works(server: ScriptedServer, video: str, tmp_path: Path, name: bytes) -> None:
    shutil.copyfile(video, tmp_path / os.fsdecode(name))

    ran = watch(name, "--json", server=server, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len([json.loads(line) for line in ran.stdout.splitlines()]) == FRAME_COUNT
    outputs = ["--save", "out.mp4", "--csv", "a.csv"]
    ran = watch(name, *outputs, server=server, cwd=tmp_path, PYTHONIOENCODING="ascii:strict")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert streams_of(tmp_path / "out.mp4")["audio"][0] == "aac"


def test_the_password_of_a_url_is_shown_nowhere(server: ScriptedServer) -> None:
    ran = watch("rtsp://me:sesame@127.0.0.1:1/x?token=sesame", "--patience", "0", server=server)

    assert ran.returncode == 1
    assert "rtsp://me:***@127.0.0.1:1/x?token=***" in ran.stderr
    assert "sesame" not in ran.stdout + ran.stderr


def test_a_reader_that_leaves_ends_it_without_a_word(server: ScriptedServer, video: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "watch", video, "--json", "--csv", "a.csv"],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    os.close(writing)

    assert (ran.returncode, ran.stderr) == (1, "")


class Camera:
    """A network camera: Motion JPEG over HTTP, with so many frames per connection."""

    def __init__(self, frames_per_connection: list[int], gap_s: float = 0.0) -> None:
        left = list(frames_per_connection)
        _, jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), 90, np.uint8))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not left:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for _ in range(left.pop(0)):
                    header = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    self.wfile.write(header + jpeg.tobytes() + b"\r\n")
                    time.sleep(gap_s)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/live"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_live_source_that_breaks_is_opened_again_and_one_that_stays_away_fails(server: ScriptedServer) -> None:
    with Camera([40, 40]) as camera:
        ran = watch(camera.url, "--json", "--patience", "1", server=server)

    numbers = [json.loads(line)["sequence_id"] for line in ran.stdout.splitlines()]
    assert numbers == sorted(set(numbers))
    assert max(numbers) > 40
    assert ran.returncode == 1
    assert "trying again" in ran.stderr
    assert "given up after 1 s without a frame" in ran.stderr.splitlines()[-1]
    configs = [each.config for each in server.requests["StreamFrames"] if each.HasField("config")]
    assert {config.overload_policy for config in configs} == {1}


def test_a_live_source_goes_on_after_its_server_was_lost(server: ScriptedServer) -> None:
    server.end_stream_after, server.ended_streams = 5, 1
    with Camera([100], gap_s=0.02) as camera:
        ran = watch(camera.url, "--json", "--patience", "1", server=server)

    records = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [record["sequence_id"] for record in records] == list(range(len(records)))
    assert len(records) > 80
    assert not records[-1]["dropped"]
    assert sum(record["dropped"] for record in records) < 60
    assert "lost the server" in ran.stderr


def test_a_window_shows_the_frames_until_it_is_closed(server: ScriptedServer, video: str) -> None:
    ran = watch(video, "--window", server=server, SDL_VIDEODRIVER="dummy")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert str(FRAME_COUNT) in ran.stdout


def test_a_window_without_a_display_says_what_to_do(server: ScriptedServer, video: str) -> None:
    ran = watch(video, "--window", server=server, DISPLAY="", WAYLAND_DISPLAY="")

    assert ran.returncode == 1
    assert "there is no display" in ran.stderr


def test_a_window_really_opens_on_an_x_server(server: ScriptedServer, video: str) -> None:
    if shutil.which("xvfb-run") is None:
        pytest.skip("there is no Xvfb here")
    server.frame_delay_s = 0.2
    window = "xwininfo -root -tree 2>/dev/null | grep -q 'ferserve watch'"
    script = (
        f"{sys.executable} -c '{PROGRAM}' watch {video} --window & watching=$!; "
        f"for _ in $(seq 100); do {window} && echo seen && break; sleep 0.1; done; wait $watching"
    )
    if shutil.which("xwininfo") is None:
        pytest.skip("there is no xwininfo here")

    ran = subprocess.run(
        ["xvfb-run", "-a", "sh", "-c", script],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )

    assert ran.stdout.startswith("seen"), ran.stderr
    assert ran.returncode == 0
