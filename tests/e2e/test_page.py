"""Tests the page in a real Chromium, on a real server: pictures, a video and a webcam."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.model_factory import LABELS
from support.page_media import write_camera, write_video
from support.pictures import ASTRONAUT
from support.server_process import run_server

BROWSER_TESTS = Path(__file__).parents[1] / "browser"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
TOOLS_MISSING = CHROMIUM is None or shutil.which("node") is None or not (BROWSER_TESTS / "node_modules").is_dir()

needs_browser = pytest.mark.skipif(
    TOOLS_MISSING and not os.environ.get("FERSERVE_BROWSER_TESTS"),
    reason="needs Debian's chromium, node, and `make browser-tools`",
)

Report = dict[str, Any]


def test_the_picture_goes_before_the_analysis_by_rule() -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    done = subprocess.run(
        ["node", "--test", "pace.test.mjs"],
        cwd=BROWSER_TESTS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def report(tiny_model_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What Chromium saw in each scenario of `tests/browser/page.mjs`."""
    media = tmp_path_factory.mktemp("media")
    write_video(media / "portrait.webm", 4)
    write_camera(media / "camera.y4m", 4)
    # The search is made cheap, so that server and browser share a small machine.
    with run_server(tiny_model_repo, "--detection-side-pixels", "160", "--min-face-pixels", "24") as server:
        command = ["node", "page.mjs", server.http_url, str(media), str(ASTRONAUT)]
        done = subprocess.run(
            command, cwd=BROWSER_TESTS, capture_output=True, text=True, timeout=170, check=False, env=_env()
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _env() -> dict[str, str]:
    return {**os.environ, "CHROMIUM": CHROMIUM or "/usr/bin/chromium"}


def _rows(saved: dict[str, str]) -> list[dict[str, str]]:
    assert saved["name"].startswith("expressions-")
    assert saved["name"].endswith(".csv")
    return list(csv.DictReader(io.StringIO(saved["text"])))


@needs_browser
@pytest.mark.parametrize(
    "name", ["picture", "pasted", "broken", "keyboard", "phone", "video", "webcam", "restarted", "models"]
)
def test_every_scenario_runs_without_a_word_in_the_console(report: Report, name: str) -> None:
    seen = report[name]
    assert "error" not in seen, seen["error"]
    # The browser itself reports the status of a rejected picture.
    assert seen["noise"] == (
        ["Failed to load resource: the server responded with a status of 400 (Bad Request)"]
        if name == "broken"
        else []
    )


@needs_browser
def test_nothing_is_fetched_from_elsewhere(report: Report) -> None:
    hosts = {host for seen in report.values() for host in seen["hosts"]}
    assert len(hosts) == 1
    assert next(iter(hosts)).startswith("127.0.0.1:")


@needs_browser
@pytest.mark.parametrize("name", ["picture", "phone", "video", "webcam"])
def test_axe_finds_nothing(report: Report, name: str) -> None:
    assert report[name]["axe"] == []
    if name == "picture":
        assert report[name]["start"]["axe"] == []


@needs_browser
def test_a_dropped_picture_gets_boxes_and_seven_bars(report: Report) -> None:
    seen = report["picture"]
    (card,) = seen["cards"]
    assert tuple(card["shares"]) == LABELS
    assert sum(card["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert card["emotion"] == max(card["shares"], key=card["shares"].__getitem__)
    assert card["sure"] == round(100 * max(card["shares"].values()))
    assert seen["painted"] > 1000
    assert seen["said"] == f"1 face: {card['emotion']}"
    assert seen["by"] == "fer-nano 1"
    (row,) = _rows(seen["csv"])
    assert row["emotion"] == card["emotion"]
    assert [float(row[label]) for label in LABELS] == pytest.approx(list(card["shares"].values()), abs=1e-6)


@needs_browser
def test_a_pasted_picture_is_the_same(report: Report) -> None:
    assert report["pasted"]["cards"] == report["picture"]["cards"]


@needs_browser
def test_the_page_says_what_happens_to_frames_and_what_an_answer_is(report: Report) -> None:
    text = report["picture"]["note"]
    assert "Frames go to this server and nowhere else" in text
    assert "Nothing is kept" in text
    assert "Apparent expressions, not felt emotions" in text


@needs_browser
def test_a_file_that_is_no_picture_is_reported_in_words(report: Report) -> None:
    assert "Send a JPEG, PNG or WebP" in report["broken"]["toast"]
    assert report["broken"]["state"] == "No answer"


@needs_browser
def test_it_works_by_keyboard_alone(report: Report) -> None:
    order = report["keyboard"]["order"]
    assert order[:4] == ["skip", "model", "choose", "webcam"]
    assert len(report["keyboard"]["cards"]) == 1


@needs_browser
def test_it_fits_a_phone(report: Report) -> None:
    seen = report["phone"]
    assert seen["fits"] == [True, True]
    assert seen["smallest"] >= 36  # CSS pixels
    assert seen["paper"] == "rgb(21, 19, 16)"  # the dark scheme


@needs_browser
def test_a_video_gets_a_timeline_events_and_csv(report: Report) -> None:
    seen = report["video"]
    assert "Face 1 appeared" in seen["events"][-1]
    assert seen["lanes"] > 1000
    assert "face 1:" in seen["timeline"]
    rows = _rows(seen["csv"])
    times = [float(row["time_s"]) for row in rows]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 4.1
    assert {row["track_id"] for row in rows} >= {"1"}


@needs_browser
def test_the_picture_of_the_webcam_stays_at_camera_rate(report: Report) -> None:
    seen = report["webcam"]
    assert seen["cameraRate"] == 30
    alone = sum(seen["alone"]) / len(seen["alone"])
    analysed = sum(seen["perSecond"]) / len(seen["perSecond"])
    # A busy machine shows fewer frames with or without analysis; so the two are compared.
    assert len(seen["perSecond"]) == 10
    assert analysed >= 0.9 * alone, seen
    if min(seen["alone"]) >= 29:
        assert min(seen["perSecond"]) >= 27, seen
    assert 10 <= seen["sent"] <= 30 * 16
    assert (seen["state"], seen["painted"] > 500) == ("Live", True)
    assert len(seen["cards"]) == 1


@needs_browser
def test_a_stopped_webcam_sends_nothing_more(report: Report) -> None:
    assert report["webcam"]["sentAfterStop"] == 0
    assert report["webcam"]["welcome"]


@needs_browser
def test_a_stream_that_a_restarting_server_cut_is_resumed(report: Report) -> None:
    seen = report["restarted"]
    first, second = seen["configs"][:2]
    assert "resumed_after_sequence_id" not in first
    assert second["resumed_after_sequence_id"] == 2
    assert seen["sequences"] == sorted(set(seen["sequences"]))
    assert seen["playing"]
    assert seen["state"] == "Live"


@needs_browser
def test_models_can_be_chosen(report: Report) -> None:
    assert report["models"]["options"] == ["Default (fer-nano)", "fer-nano, version 1"]
    assert report["models"]["by"] == "fer-nano 1"
