"""Tests the project's own rules, which no linter knows."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
ROOMS = ("proto", "client", "vision", "server", "training")


def tracked_files():
    """The files of the project; in a checkout those that git would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_carry_hashes_and_no_addresses(lock):
    text = lock.read_text()

    pinned = re.findall(r"^[a-zA-Z0-9_.-]+(?:\[[^\]]*\])?==", text, re.MULTILINE)
    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in "".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def test_the_lock_of_the_node_client_carries_hashes_and_no_addresses():
    text = (ROOT / "tests/conformance/clients/package-lock.json").read_text()
    packages = json.loads(text)["packages"]

    assert all("integrity" in package for name, package in packages.items() if name)
    assert "://" not in text


def test_names_say_what_is_inside():
    empty_words = {"utils", "util", "helpers", "helper", "common", "misc"}

    assert not [path for path in tracked_files() if {path.stem, path.parent.name} & empty_words]


def test_files_stay_short_enough_to_read():
    long = []
    for path in tracked_files():
        name = str(path.relative_to(ROOT))
        if path.suffix != ".py" or "_pb2" in name:
            continue
        if len(path.read_text().splitlines()) > 400:
            long.append(name)

    assert not long


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_ships_its_types(room):
    (package,) = (ROOT / room / "src").glob("*/py.typed")

    assert package.parent.name.startswith("ferserve")


def test_the_rooms_carry_one_version():
    versions = {
        re.search(r'^version = "(.+)"$', (ROOT / room / "pyproject.toml").read_text(), re.MULTILINE)[1]
        for room in ROOMS
    }

    assert len(versions) == 1


def test_no_picture_of_the_data_set_is_in_here():
    names = re.compile(r"(Training|PublicTest|PrivateTest)_\d+")

    assert not [path for path in tracked_files() if names.search(path.name)]


def test_weights_stay_small():
    repository = ROOT / "model_repo"

    assert sum(path.stat().st_size for path in repository.rglob("*") if path.is_file()) < 16_000_000


def test_no_private_key_is_in_here():
    marker = b"PRIVATE KEY" + b"-----"

    assert not [path for path in tracked_files() if marker in path.read_bytes()]
