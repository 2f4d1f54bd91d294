"""Tests that `make tools` uses existing tools, and explains the remedy where there are none."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "fetch_prometheus.sh"
NEEDED = ("bash", "dirname", "head", "ln", "mkdir", "realpath", "sed")


@pytest.fixture
def programs(tmp_path):
    """A folder with the few programs that every system has: no apt, no Prometheus."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def _fetch(tools: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "bash", SCRIPT, tools],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _install(programs: Path, name: str, version: str) -> None:
    program = programs / name
    program.write_text(f"#!{programs / 'bash'}\necho '{name}, version {version} (branch: test)'\n")
    program.chmod(0o755)


def test_what_is_on_the_path_is_used(tmp_path, programs):
    _install(programs, "prometheus", "2.99.0")
    _install(programs, "promtool", "2.99.0")
    fetched = _fetch(tmp_path / "tools", programs)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert fetched.stdout == f"prometheus version 2.99.0 is in {tmp_path}/tools/bin\n"
    assert (tmp_path / "tools/bin/promtool").resolve() == programs / "promtool"


def test_a_second_run_has_nothing_to_do(tmp_path, programs):
    _install(programs, "prometheus", "2.99.0")
    _install(programs, "promtool", "2.99.0")
    _fetch(tmp_path / "tools", programs)
    again = _fetch(tmp_path / "tools", programs)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_without_apt_one_line_says_what_to_do(tmp_path, programs):
    fetched = _fetch(tmp_path / "tools", programs)
    assert fetched.returncode == 1
    (line,) = fetched.stderr.splitlines()
    assert line.startswith("fetch_prometheus: there is no apt here: put prometheus and promtool")


def test_half_of_it_on_the_path_does_not_do(tmp_path, programs):
    _install(programs, "prometheus", "2.99.0")
    assert "there is no apt here" in _fetch(tmp_path / "tools", programs).stderr
