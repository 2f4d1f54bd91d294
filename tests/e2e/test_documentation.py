"""Tests that the commands in the documents work."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language):
    return [
        pytest.param(body, id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, (found, body) in enumerate(BLOCK.findall(path.read_text()))
        if found == language
    ]


def lines(first_word):
    found = []
    for path in DOCUMENTS:
        for language, body in BLOCK.findall(path.read_text()):
            if language == "sh":
                words = [shlex.split(line, comments=True) for line in body.replace("\\\n", " ").splitlines()]
                found += [pytest.param(each, id=" ".join(each)) for each in words if each[:1] == [first_word]]
    return found


@pytest.fixture
def workshop(tmp_path):
    """A folder like the checkout, with what the documents' examples name."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "media").symlink_to(ROOT / "tests" / "media")
    sys.path.insert(0, str(ROOT / "demo"))
    from video import write_video  # noqa: PLC0415 - the demo is no package

    write_video(ROOT / "tests" / "media" / "astronaut.jpg", tmp_path / "video.mp4", frame_count=5)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_example_runs(code, running_server, workshop):
    code = code.replace("localhost:50051", running_server.address)
    code = code.replace("http://localhost:8080", running_server.http_url)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workshop, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("words", lines("ferserve"))
def test_a_client_command_runs(words, running_server, workshop):
    environment = os.environ | {"FERSERVE_SERVER": running_server.address}

    done = subprocess.run(
        [BIN / words[0], *words[1:]],
        cwd=workshop,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", lines("curl"))
def test_a_curl_command_is_answered(words, running_server, workshop):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    words = [word.replace("localhost:8080", running_server.http_url) for word in words]

    done = subprocess.run(
        [*words, "--silent", "--show-error", "--fail"],
        cwd=workshop,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("words", lines("ferserve-server"))
def test_a_server_command_is_understood(words):
    done = subprocess.run(
        [BIN / words[0], *words[1:], "--print-config"], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", lines("ferserve-train"))
def test_a_training_command_exists_with_its_options(words):
    helped = subprocess.run(
        [BIN / words[0], words[1], "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )

    assert helped.returncode == 0, helped.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in helped.stdout


@pytest.mark.parametrize("words", lines("make"))
def test_a_make_target_exists(words):
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_make_help_lists_every_target_that_the_makefile_documents():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown = re.sub(r"\x1b\[\d*m", "", shown)

    for target in ("setup", "demo", "test", "serve", "check", "proto", "bench"):
        assert re.search(rf"\b{target}\b", shown)


@pytest.mark.parametrize("words", lines("docker"))
def test_a_compose_command_names_services_and_profiles_that_exist(words):
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}

    assert words[1] == "compose"
    if "--profile" in words:
        assert words[words.index("--profile") + 1] in profiles


def test_the_demo_finds_the_face_and_stops_cleanly(tmp_path):
    shutil.rmtree(ROOT / "demo-output", ignore_errors=True)

    done = subprocess.run(
        [sys.executable, "demo/run.py"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=170
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 frames answered" in done.stdout
    assert 'ferserve_requests_total{code="OK",method="StreamFrames"} 1.0' in done.stdout
    assert "ended with exit code 0" in done.stdout
    assert (ROOT / "demo-output" / "annotated.mp4").stat().st_size > 10_000
