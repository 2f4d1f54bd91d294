"""Tests the choice of the frames of a stream that are analysed, as tables of events."""

from __future__ import annotations

import pytest

from ferserve_server.pipeline.stream_window import OverloadPolicy, StreamWindow

LATEST, EVERY_FRAME = OverloadPolicy.LATEST, OverloadPolicy.EVERY_FRAME


def _play(policy: OverloadPolicy, max_running: int, events: str) -> str:
    """Plays events, `7` for the arrival of frame 7 and `.` for a frame that is finished; starts what may start.

    Returns what happened: `7` for the start of frame 7 and `-7` for its giving way.
    """
    window = StreamWindow(policy, max_running)
    happened = []
    for event in events.split():
        if event == ".":
            window.finished()
        elif (dropped := window.arrived(int(event), now=0.0)) is not None:
            happened.append(f"-{dropped}")
        while window.ask():
            _, started = window.pick(now=0.0)
            window.searched()
            happened.append(str(started))
    return " ".join(happened)


@pytest.mark.parametrize(
    ("policy", "max_running", "events", "happened"),
    [
        pytest.param(LATEST, 1, "0", "0", id="the first frame starts at once"),
        pytest.param(LATEST, 1, "0 1", "0", id="the second waits"),
        pytest.param(LATEST, 1, "0 1 .", "0 1", id="it starts when the first is finished"),
        pytest.param(LATEST, 1, "0 1 2", "0 -1", id="a newer one takes the place of the one that waits"),
        pytest.param(LATEST, 1, "0 1 2 3 4 .", "0 -1 -2 -3 4", id="of many only the newest is analysed"),
        pytest.param(LATEST, 1, "0 . 1 . 2", "0 1 2", id="a slow sender loses nothing"),
        pytest.param(LATEST, 2, "0 1 2 3", "0 1 -2", id="two at once, one waits"),
        pytest.param(LATEST, 2, "0 1 2 3 . .", "0 1 -2 3", id="a free hand takes the newest"),
        pytest.param(EVERY_FRAME, 1, "0 1 2 . . .", "0 1 2", id="blocking analyses all, in order"),
        pytest.param(EVERY_FRAME, 2, "0 1 2 3 . .", "0 1 2 3", id="blocking with two at once"),
        pytest.param(EVERY_FRAME, 1, "0 1 2 3", "0", id="blocking keeps what waits"),
        pytest.param(LATEST, 1, "3 90 1000 .", "3 -90 1000", id="numbers may skip"),
    ],
)
def test_the_window(policy: OverloadPolicy, max_running: int, events: str, happened: str) -> None:
    assert _play(policy, max_running, events) == happened
