"""Demonstrates the service on real input: a server on the bundled model, a photograph and a video by the client.

Run it with `make demo`. What it writes lies in demo-output/.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from video import write_video

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
OUTPUT = ROOT / "demo-output"
PORTRAIT = ROOT / "tests" / "media" / "astronaut.jpg"
START_TIMEOUT_S = 180.0
SHOWN_METRICS = (
    "ferserve_requests_total",
    "ferserve_faces_total",
    "ferserve_batches_total",
    "ferserve_predictions_total",
    "ferserve_stream_answers_total",
    "ferserve_rejections_total",
)


def say(text: str) -> None:
    """Prints a headline."""
    print(f"\n\033[1m== {text}\033[0m", flush=True)


@contextmanager
def server(log_path: Path) -> Iterator[tuple[str, str]]:
    """Runs `ferserve-server` on free ports; gives the address and the metrics URL, and stops it with SIGTERM."""
    command = [BIN / "ferserve-server", "--model-repo", ROOT / "model_repo", "--log-format", "json"]
    command += ["--listen", "127.0.0.1:0", "--http-listen", "off", "--metrics-listen", "127.0.0.1:0"]
    with log_path.open("w") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=ROOT)
    try:
        listening = wait_for_event(process, log_path, "listening")
        wait_for_event(process, log_path, "version ready")
        yield f"127.0.0.1:{listening['port']}", f"http://127.0.0.1:{listening['metrics_port']}/metrics"
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        print(f"The server drained and ended with exit code {code}.")
    if code != 0:
        sys.exit(f"the server ended with {code}; its log is {log_path}")


def wait_for_event(process: subprocess.Popen[bytes], log_path: Path, event: str) -> dict[str, object]:
    """Reads the server's log until a line of this event is there."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        for line in log_path.read_text().splitlines():
            if line.startswith("{") and json.loads(line).get("event") == event:
                return json.loads(line)  # type: ignore[no-any-return]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the server did not come to {event!r}; its log is {log_path}")


def ferserve(*arguments: object, address: str) -> str:
    """Runs the client's command and returns what it printed."""
    environment = os.environ | {"FERSERVE_SERVER": address}
    command = [str(BIN / "ferserve"), *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Runs the demo."""
    OUTPUT.mkdir(exist_ok=True)
    video = OUTPUT / "astronaut.mp4"
    write_video(PORTRAIT, video)
    say("Starting the server on the bundled model")
    with server(OUTPUT / "server.log") as (address, metrics_url):
        print(ferserve("models", address=address))

        say("A photograph: ferserve analyze astronaut.jpg --save demo-output")
        print(ferserve("analyze", PORTRAIT, "--save", OUTPUT, address=address))

        say("A video: ferserve watch astronaut.mp4 --json --save annotated.mp4")
        lines = ferserve(
            "watch", video, "--json", "--save", OUTPUT / "annotated.mp4", address=address
        ).splitlines()
        frames = [json.loads(line) for line in lines]
        print(lines[0])
        emotions = Counter(face["emotion"] for frame in frames for face in frame["faces"])
        print(f"{len(frames)} frames answered; faces by apparent expression: {dict(emotions)}")

        say(f"The server's own metrics: {metrics_url}")
        with urllib.request.urlopen(metrics_url) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(SHOWN_METRICS):
                    print(line)
        say("Stopping")
    written = sorted(str(path.relative_to(ROOT)) for path in OUTPUT.iterdir())
    print("Written: " + ", ".join(written))
    print(
        "Next: `.venv/bin/ferserve quickstart` starts a server and opens its page; in another terminal then "
        "`.venv/bin/ferserve watch demo-output/astronaut.mp4`."
    )


if __name__ == "__main__":
    main()
