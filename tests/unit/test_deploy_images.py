"""Tests that the Dockerfiles follow the rules of images that are safe to run."""

import json
import re
from pathlib import Path

import pytest

from ferserve_server.config.settings import SETTINGS

ROOT = Path(__file__).parents[2]
ROOMS = ("server", "training")
each_room = pytest.mark.parametrize("room", ROOMS)


def _instructions(room: str) -> list[tuple[str, str]]:
    """What a Dockerfile does, a word and the rest each; continued lines are one, comments none."""
    text = (ROOT / "deploy" / f"{room}.Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    parts = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(word, rest) for word, rest in parts]


def _stages(room: str) -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for word, rest in _instructions(room):
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((word, rest))
    return stages


def _runtime(room: str) -> list[tuple[str, str]]:
    return _stages(room)[-1]


def _only(room: str, word: str) -> str:
    (rest,) = [rest for each, rest in _runtime(room) if each == word]
    return rest


def _pip_installs(room: str) -> list[str]:
    commands = [part.strip() for word, rest in _instructions(room) if word == "RUN" for part in rest.split("&&")]
    return [command for command in commands if "pip install" in command]


@each_room
def test_nothing_runs_as_root_at_run_time(room):
    words = [word for word, _ in _runtime(room)]
    assert _only(room, "USER") == "10001:10001"
    assert "RUN" not in words[words.index("USER") :]


@each_room
def test_every_download_is_checked_against_a_hash(room):
    for install in _pip_installs(room):
        assert ("--require-hashes" in install) != ("--no-deps --no-build-isolation" in install)


@each_room
def test_the_base_is_pinned_and_the_same_in_all_stages(room):
    (base,) = [rest for word, rest in _instructions(room) if word == "ARG" and rest.startswith("BASE_IMAGE=")]
    assert re.fullmatch(r"BASE_IMAGE=python:3\.11-[a-z-]+", base)
    assert {stage[0][1].split()[0] for stage in _stages(room)} == {"${BASE_IMAGE}"}


@each_room
def test_only_the_environment_leaves_the_builder(room):
    copies = [rest for word, rest in _runtime(room) if word in {"COPY", "ADD"}]
    assert copies == ["--from=builder /opt/ferserve /opt/ferserve"]


@each_room
def test_what_is_copied_is_there_and_let_through(room):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copies = [rest.split() for word, rest in _stages(room)[0] if word == "COPY"]
    assert ["requirements/" + f"{room}-${{TF}}.lock", "requirements/"] in copies
    for source, _ in copies:
        assert f"!{source.split('/')[0]}" in ignored
        for which in ("cpu", "gpu"):
            assert (ROOT / source.replace("${TF}", which)).exists()


@each_room
def test_a_signal_reaches_the_program_itself(room):
    assert _only(room, "STOPSIGNAL") == "SIGTERM"
    assert len(json.loads(_only(room, "ENTRYPOINT"))) == 1  # the exec form: no shell between


@each_room
def test_the_image_says_what_it_is(room):
    for label in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{label}=" in _only(room, "LABEL")


def test_the_server_image_asks_for_health_over_grpc():
    assert '"python", "-m", "ferserve_server.app.healthcheck"' in _only("server", "HEALTHCHECK")


def test_the_server_image_sets_only_settings_that_exist():
    names = re.findall(r"FERSERVE_(\w+)=", _only("server", "ENV"))
    assert names
    assert {name.lower() for name in names} <= SETTINGS.keys()


def test_the_server_image_exposes_the_ports_that_it_listens_on():
    environment = dict(re.findall(r"(FERSERVE_\w+)=(\S+)", _only("server", "ENV")))
    addresses = [environment[f"FERSERVE_{name}"] for name in ("LISTEN", "HTTP_LISTEN", "METRICS_LISTEN")]
    listened = [address.rpartition(":")[2] for address in addresses]
    assert _only("server", "EXPOSE").split() == listened
