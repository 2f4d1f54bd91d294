"""Runs every example as its first lines say, against the real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.grpc_clients import GO_PATH, grpc_js
from support.model_factory import LABELS
from support.pictures import ASTRONAUT
from support.server_process import run_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BROWSER_TESTS = ROOT / "tests" / "browser"
EMOTION = "|".join(LABELS)
GO_BUILD_S = 170.0
PROTOBUF_1_5 = Path("src/github.com/golang/protobuf/internal/gengogrpc")


def run(*command: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> str:
    """Runs a command, and returns what it printed; fails with its complaints."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needed(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")


def test_the_list_names_every_example_and_nothing_else() -> None:
    listed = set(re.findall(r"\]\(((?!\.\.)[^)]+)\)", (EXAMPLES / "README.md").read_text()))

    assert listed == {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.*")} - {"README.md"}


def test_python_finds_the_face_and_names_a_broken_picture(running_server: ServerProcess, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(ASTRONAUT.read_bytes()[:1000])

    shown = run(sys.executable, EXAMPLES / "python_sync.py", broken, ASTRONAUT, "--server", running_server.address)

    first, second = shown.splitlines()
    assert first == "broken.jpg IMAGE_UNREADABLE"
    assert re.fullmatch(rf"astronaut.jpg \d+ \d+ ({EMOTION}) \d+%", second)


def test_python_on_asyncio_answers_every_picture(running_server: ServerProcess) -> None:
    shown = run(sys.executable, EXAMPLES / "python_async.py", *[ASTRONAUT] * 5, "--server", running_server.address)

    assert re.fullmatch(rf"(astronaut.jpg \['({EMOTION})'\]\n){{5}}", shown)


def test_pandas_makes_a_table_of_a_folder(running_server: ServerProcess) -> None:
    shown = run(
        sys.executable, EXAMPLES / "python_pandas.py", ASTRONAUT.parent, "--server", running_server.address
    )

    heading, row, *counts = shown.splitlines()
    assert heading.split() == ["picture", "width", "emotion", *LABELS]
    assert row.split()[0] == "astronaut.jpg"
    assert row.split()[2] == counts[1].split()[0]


def test_curl_gets_json(running_server: ServerProcess) -> None:
    needed("curl")

    answer = json.loads(run(EXAMPLES / "analyze.sh", ASTRONAUT, running_server.http_url))

    assert answer["results"][0]["faces"][0]["emotion"] in LABELS


def test_node_finds_the_face(running_server: ServerProcess) -> None:
    client = grpc_js()

    shown = run("node", EXAMPLES / "node/analyze.js", ASTRONAUT, running_server.address, env=client.env)

    assert re.fullmatch(rf"({EMOTION}) [01]\.\d\d at \d+, \d+\n", shown)


@pytest.mark.timeout(240)
def test_go_finds_the_face(running_server: ServerProcess, tmp_path: Path) -> None:
    needed("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")
    # grpc-go encodes messages of today's generator only with version 1.5 of its protobuf library.
    if not (GO_PATH / "src/google.golang.org/grpc").is_dir() or not (GO_PATH / PROTOBUF_1_5).is_dir():
        pytest.skip("apt-get install golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev")
    source = tmp_path / "src" / "ferserve-example"
    shutil.copytree(EXAMPLES / "go", source)
    run(EXAMPLES / "go" / "generate.sh", source)
    env = {
        "GO111MODULE": "off",
        "GOPATH": f"{tmp_path}:{GO_PATH}",
        "GOCACHE": str(ROOT / ".tools" / "go" / "cache"),
        "GOFLAGS": "",
    }
    run("go", "build", "-o", tmp_path / "analyze", source / "main.go", env=env, timeout_s=GO_BUILD_S)

    shown = run(tmp_path / "analyze", ASTRONAUT, running_server.address)

    assert re.fullmatch(rf"({EMOTION}) [01]\.\d\d at \d+, \d+\n", shown)


@pytest.fixture
def example_page() -> Iterator[str]:
    """The address of the example of a page, served as its first lines say."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(EXAMPLES))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/browser.html"
        server.shutdown()
        thread.join()


def test_a_page_of_another_origin_streams_a_picture(tiny_model_repo: Path, example_page: str) -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    tools_missing = (
        chromium is None or shutil.which("node") is None or not (BROWSER_TESTS / "node_modules").is_dir()
    )
    if tools_missing and not os.environ.get("FERSERVE_BROWSER_TESTS"):
        pytest.skip("needs Debian's chromium, node, and `make browser-tools`")
    assert (EXAMPLES / "browser.html").is_file()
    origin = example_page.removesuffix("/browser.html")
    with run_server(tiny_model_repo, "--http-origins", origin) as server:
        stream = server.http_url.replace("http:", "ws:") + "/v1/stream"
        shown = run(
            "node", BROWSER_TESTS / "example.mjs", example_page, stream, ASTRONAUT,
            env={"CHROMIUM": chromium or "/usr/bin/chromium"}, timeout_s=90,
        )  # fmt: skip

    assert re.fullmatch(rf"({EMOTION}) [01]\.\d\d\n", shown)
