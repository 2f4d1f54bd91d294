"""Tests that Prometheus' own tool accepts the configuration and proves the alerts."""

import subprocess

import pytest

from support.monitoring import PROMETHEUS_FOLDER
from support.prometheus import find_tool

pytestmark = pytest.mark.prometheus
UNIT_TESTS = sorted(path.name for path in PROMETHEUS_FOLDER.glob("*_test.yml"))


def _promtool(*arguments: str) -> None:
    ran = subprocess.run(
        [find_tool("promtool"), *arguments],
        cwd=PROMETHEUS_FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_configuration_is_valid():
    _promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")


def test_the_rules_are_valid():
    _promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


@pytest.mark.parametrize("name", UNIT_TESTS)
def test_the_alerts_fire_when_they_should_and_only_then(name):
    _promtool("test", "rules", name)
