"""Compares `ferserve folder` with bare AnalyzeImages calls on the same pictures, alternately.

Usage: python benchmarks/folder_rate.py --server HOST:PORT [--pictures 200] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ferserve_client import EmotionClient

PORTRAIT = Path(__file__).parents[1] / "tests" / "media" / "astronaut.jpg"
PER_CALL = 8
IN_FLIGHT = 4


def write_pictures(folder: Path, count: int) -> list[bytes]:
    """Writes JPEGs of 640 x 480 with the portrait at places of its own."""
    portrait = cv2.resize(cv2.imread(str(PORTRAIT)), (480, 480))
    random = np.random.default_rng(1)
    pictures = []
    for number in range(count):
        canvas = np.full((480, 640, 3), random.integers(60, 200), np.uint8)
        left = int(random.integers(0, 161))
        canvas[:, left : left + 480] = portrait
        data = cv2.imencode(".jpg", canvas)[1].tobytes()
        (folder / f"{number:05}.jpg").write_bytes(data)
        pictures.append(data)
    return pictures


def time_of_calls(server: str, pictures: list[bytes]) -> float:
    """Sends the pictures through one client, several calls at a time; returns seconds."""
    began = time.perf_counter()
    groups = [pictures[start : start + PER_CALL] for start in range(0, len(pictures), PER_CALL)]
    with EmotionClient(server, timeout_s=120.0) as client, ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(lambda group: client.analyze(group, priority="bulk"), groups))
    return time.perf_counter() - began


def time_of_command(server: str, folder: Path, table: Path) -> float:
    """Runs the command on the folder, start of Python included; returns seconds."""
    began = time.perf_counter()
    arguments = ["folder", str(folder), "--out", str(table), "--overwrite", "--server", server, "--timeout", "120"]
    program = "from ferserve_client.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Runs the comparison and prints it as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        pictures = write_pictures(folder, options.pictures)
        rounds = [
            (
                time_of_calls(options.server, pictures),
                time_of_command(options.server, folder, Path(scratch) / "a.csv"),
            )
            for _ in range(options.rounds)
        ]
    ratios = [command / calls for calls, command in rounds]
    print(
        json.dumps(
            {
                "pictures": options.pictures,
                "calls_s": [round(calls, 2) for calls, _ in rounds],
                "command_s": [round(command, 2) for _, command in rounds],
                "median_ratio": round(statistics.median(ratios), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
