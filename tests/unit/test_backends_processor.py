"""Tests the detection of the processor's properties."""

import os

import pytest

from ferserve_server.app.services import build_vision
from ferserve_server.backends.processor import cpu_count, describe_machine, multiplies_bfloat16
from ferserve_server.config.settings import Settings
from ferserve_server.telemetry.recorder import PrometheusRecorder

CPUINFO = """processor\t: 0
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu avx512f {}
bugs\t\t: avx512_bf16

processor\t: 1
"""


@pytest.mark.parametrize(
    ("flags", "can"), [("avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx512_vnni", False), ("", False)]
)
def test_only_a_processor_with_the_instructions_multiplies_bfloat16(flags, can):
    assert multiplies_bfloat16(CPUINFO.format(flags)) is can


def test_where_nothing_is_known_of_the_processor_it_cannot():
    assert not multiplies_bfloat16("")


def test_the_machine_is_named_the_same_every_time():
    assert describe_machine() == describe_machine() != ""


def test_where_the_system_tells_no_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert cpu_count() == os.cpu_count()
    pool = build_vision(Settings.of(), PrometheusRecorder(), None)
    pool.close()
