"""Tests numbers and flow-control windows of streams."""

from __future__ import annotations

import threading

import pytest

from ferserve_client.answers import Frame
from ferserve_client.flow_control import FlowControlWindow
from ferserve_client.numbering import FrameNumbering


def test_frames_without_a_number_are_counted_from_0() -> None:
    numbering = FrameNumbering()

    assert [numbering.number(image).sequence_id for image in (b"a", b"b", b"c")] == [0, 1, 2]


def test_frames_go_on_from_a_number_that_was_given() -> None:
    numbering = FrameNumbering()

    assert numbering.number(Frame(7, b"a")) == Frame(7, b"a")
    assert numbering.number(b"b") == Frame(8, b"b")


def test_numbers_must_rise() -> None:
    numbering = FrameNumbering()
    numbering.number(Frame(7, b"a"))

    with pytest.raises(ValueError, match="rise"):
        numbering.number(Frame(7, b"b"))
    with pytest.raises(ValueError, match="rise"):
        FrameNumbering().number(Frame(-1, b"b"))


def test_what_is_no_frame_is_rejected() -> None:
    with pytest.raises(TypeError, match="str"):
        FrameNumbering().number("frame.jpg")  # type: ignore[arg-type]  # the mistake


def test_the_window_runs_out_and_comes_back() -> None:
    window = FlowControlWindow(2)
    taken: list[int] = []
    third = threading.Event()

    def sender() -> None:
        while window.acquire():
            taken.append(len(taken))
            if len(taken) == 3:
                third.set()

    thread = threading.Thread(target=sender)
    thread.start()
    assert not third.is_set()
    window.release()
    assert third.wait(5.0)
    window.close()
    thread.join(5.0)

    assert not thread.is_alive()
    assert taken == [0, 1, 2]


def test_a_closed_window_gives_nothing_even_if_some_is_left() -> None:
    window = FlowControlWindow(2)
    window.close()

    assert not window.acquire()


def test_a_window_of_nothing_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FlowControlWindow(0)
