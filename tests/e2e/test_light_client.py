"""Tests the client alone, in an environment of its own."""

import json
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
import numpy as np
import ferserve_client, ferserve_client.cli
from ferserve_client import EmotionClient
with EmotionClient(sys.argv[1]) as client:
    predictions = client.classify(np.zeros((2, 48, 48), np.uint8))
    analyses = client.analyze([open(sys.argv[2], "rb").read()])
assert not {"tensorflow", "keras", "cv2"} & set(sys.modules)
print(len(predictions), len(analyses[0].faces))
"""


@pytest.fixture(scope="module")
def light_python(tmp_path_factory):
    """A Python with `pip install ./proto ./client` and nothing else of ours."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    sources = [str(ROOT / "proto"), str(ROOT / "client")]
    subprocess.run([python, "-m", "pip", "install", "-q", *sources], check=True, timeout=170, cwd=folder)
    return python


def test_the_client_installs_without_tensorflow_and_opencv(light_python):
    listed = subprocess.run(
        [light_python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}

    assert "ferserve-client" in names
    assert not [name for name in names if name.startswith(("tensorflow", "keras", "opencv"))]


def test_the_client_alone_talks_to_a_running_server(light_python, running_server):
    picture = ROOT / "tests" / "media" / "astronaut.jpg"

    done = subprocess.run(
        [light_python, "-c", PROGRAM, running_server.address, picture],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=picture.parent,
    )

    assert done.stdout.split() == ["2", "1"], done.stderr


def test_the_light_command_says_what_watching_a_video_needs(light_python):
    command = Path(light_python).parent / "ferserve"

    done = subprocess.run([command, "watch", "video.mp4"], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode != 0
    assert "ferserve-client[media]" in done.stderr
    assert "Traceback" not in done.stderr
