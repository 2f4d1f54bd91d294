"""Holds the distributions to one version."""

import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import ferserve_server

ROOT = Path(__file__).resolve().parents[2]


def projects():
    """Parses the manifest of every distribution."""
    found = sorted(path for path in ROOT.glob("*/pyproject.toml")) + sorted(
        ROOT.glob("packaging/*/pyproject.toml")
    )
    return {path.parent.name: tomllib.loads(path.read_text())["project"] for path in found}


def test_every_distribution_has_the_version_of_the_server():
    versions = {name: project["version"] for name, project in projects().items()}
    assert set(versions.values()) == {ferserve_server.__version__}, versions


def test_distributions_depend_on_each_other_at_their_own_version():
    for name, project in projects().items():
        extras = project.get("optional-dependencies", {}).values()
        for requirement in chain(project.get("dependencies", ()), *extras):
            if requirement.startswith("ferserve"):
                assert requirement.endswith(f"=={project['version']}"), (name, requirement)


def commands():
    """Names every command that a distribution installs."""
    return sorted(name for project in projects().values() for name in project.get("scripts", {}))


@pytest.mark.parametrize("command", commands())
def test_every_command_tells_its_version(command):
    completed = subprocess.run(
        [Path(sys.executable).parent / command, "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (completed.returncode, completed.stdout, completed.stderr) == (
        0,
        f"{ferserve_server.__version__}\n",
        "",
    )
