"""Tests log output that never blocks, never raises, and counts what it loses (faults, item 1)."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

import pytest
import structlog

from ferserve_server.domain import metrics
from ferserve_server.runtime.log_writer import LogWriter
from ferserve_server.runtime.stderr_relay import LineStream, RateLimit, StderrRelay
from ferserve_server.telemetry.logging import set_up_logging
from ferserve_server.telemetry.recorder import PrometheusRecorder


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def _until(condition):
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def _lines(reader, count):
    with os.fdopen(os.dup(reader)) as stream:
        return [stream.readline().rstrip("\n") for _ in range(count)]


def test_records_are_written_in_order(pipe):
    reader, fd = pipe
    writer = LogWriter(fd)
    for number in range(100):
        writer.write(f"line {number}")
    assert writer.flush(20)
    assert _lines(reader, 100) == [f"line {number}" for number in range(100)]
    assert writer.dropped_count == 0


def test_a_reader_that_stalls_costs_lines_and_no_time_and_is_reported_later(pipe):
    reader, fd = pipe
    reports = []
    writer = LogWriter(fd, report_dropped=reports.append, max_queued_records=50)
    line = "x" * 8000
    started_at = time.monotonic()
    for _ in range(1000):
        writer.write(line)
    assert time.monotonic() - started_at < 5  # a blocking write would never end
    _until(lambda: writer.dropped_count > 900)
    dropped = writer.dropped_count
    written = _lines(reader, 1000 - dropped)
    assert set(written) == {line}
    assert writer.flush(20)
    assert reports == [dropped]


@pytest.mark.parametrize("sink", ["gone", "full", "closed"])
def test_what_cannot_be_written_is_counted(pipe, sink):
    reader, fd = pipe
    if sink == "gone":
        os.close(reader)
    elif sink == "full":
        fd = os.open("/dev/full", os.O_WRONLY)
    else:
        os.close(fd)
    writer = LogWriter(fd)
    for _ in range(5):
        writer.write("line")
    assert writer.flush(20)
    assert writer.dropped_count == 5


def test_many_threads_lose_nothing_that_is_not_counted(pipe):
    reader, fd = pipe
    writer = LogWriter(fd, max_queued_records=100)
    threads = [threading.Thread(target=lambda: [writer.write("x" * 500) for _ in range(500)]) for _ in range(8)]
    received = []
    collector = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 1 << 16), b"")))
    collector.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(20)
    os.close(fd)
    collector.join()
    assert b"".join(received).count(b"\n") + writer.dropped_count == 4000


def test_dropped_lines_become_a_metric():
    recorder, count = PrometheusRecorder(), 0
    recorder.follow(metrics.LOG_LINES_DROPPED, lambda: count)
    read = lambda: recorder.registry.get_sample_value("ferserve_log_lines_dropped_total")  # noqa: E731
    assert read() == 0
    count = 7
    assert (read(), read()) == (7, 7)


class _Relay:
    def __init__(self):
        reader, self.sink = os.pipe()
        self.writer = LogWriter(self.sink)
        self.logged = []
        self.reader = reader
        self.relay = StderrRelay(self.writer, lambda line, source: self.logged.append((line, source)))


def test_records_of_a_child_pass_as_they_are_and_other_lines_are_logged_with_their_source():
    made = _Relay()
    fd = made.relay.open({"process": "engine", "pid": 7})
    child = LogWriter(fd, framed=True)
    child.write('{"event": "loaded"}')
    child.write("two\nlines")
    assert child.flush(20)
    os.write(fd, b"libpng error\n\nhalf of ")
    os.write(fd, b"a line\n")
    assert _lines(made.reader, 3) == ['{"event": "loaded"}', "two", "lines"]
    _until(lambda: len(made.logged) == 2)
    assert made.logged == [
        ("libpng error", {"process": "engine", "pid": 7}),
        ("half of a line", {"process": "engine", "pid": 7}),
    ]


def test_the_last_words_of_a_process_that_ends_are_logged():
    made = _Relay()
    fd = made.relay.open({})
    os.write(fd, b"terminate called after throwing")
    os.close(fd)
    _until(lambda: made.logged)
    assert made.logged == [("terminate called after throwing", {})]


def test_a_flood_of_native_lines_is_cut_to_a_rate_and_counted_and_never_blocks_its_writer():
    made = _Relay()
    fd = made.relay.open({})
    sent = 0
    for _ in range(3000):
        try:
            sent += os.write(fd, b"Corrupt JPEG data: premature end\n") // 33
        except BlockingIOError:  # the pipe is full: the line is lost, and its writer goes on
            continue
    _until(lambda: len(made.logged) + made.writer.dropped_count == sent)
    assert len(made.logged) < 150


def test_lines_that_a_child_dropped_are_counted_with_those_of_its_parent():
    made = _Relay()
    fd = made.relay.open({})
    os.write(fd, b"\x1d12\n")
    _until(lambda: made.writer.dropped_count == 12)


def test_one_line_without_end_takes_no_memory_without_measure():
    made = _Relay()
    fd = made.relay.open({})
    os.set_blocking(fd, True)
    for _ in range(40):
        os.write(fd, b"x" * 65536)
    _until(lambda: made.logged)
    assert max(len(line) for line, _ in made.logged) == 2000


def test_a_rate_limit_lets_a_burst_pass_and_then_so_many_a_second():
    now = 0.0
    limit = RateLimit(3, 2.0, now=lambda: now)
    assert [limit.allow() for _ in range(5)] == [True, True, True, False, False]
    now = 1.0
    assert [limit.allow() for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert [limit.allow() for _ in range(4)] == [True, True, True, False]


def test_what_python_code_prints_to_stderr_comes_as_lines():
    lines = []
    stream = LineStream(lines.append, 2)
    print("one", "two", file=stream)
    stream.write("half")
    stream.writelines([" line\n", "\n"])
    stream.flush()
    assert lines == ["one two", "half line"]
    assert not stream.isatty()


class _Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


@pytest.fixture
def log_lines(capsys):
    before = structlog.get_config()
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.configure(**before)


def test_a_value_that_cannot_be_rendered_costs_the_details_only(log_lines):
    set_up_logging("info", "json")
    structlog.get_logger().info("odd", value=_Unprintable())
    (line,) = log_lines()
    assert (line["event"], line["log_error"]) == ("odd", "RuntimeError")


def test_a_stderr_that_is_closed_gone_or_none_raises_nothing(monkeypatch, capsys):
    before = structlog.get_config()
    set_up_logging("info", "json")
    log = structlog.get_logger()
    broken = open("/dev/full", "w")  # noqa: PTH123, SIM115 - buffered until it fails
    for stderr in (None, broken):
        monkeypatch.setattr("sys.stderr", stderr)
        log.info("asked to nobody", text="x" * 100_000)
        log.error("as well")
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        broken.close()
    structlog.configure(**before)
