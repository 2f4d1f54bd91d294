"""Measures streams of frames: throughput, freshness, overload, steadiness, and the faces that are shown.

Where `--base` names another checkout of the project, its server is measured alternately with this one. Clips are
video files that the caller names; without any, a drawn portrait moves on a known path. Servers and client share
the machine.

Prints tables and writes benchmarks/results/streams.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from load.process_tree import processes_of
from load.running import with_benchmarks_on_path
from machine import machine_facts
from servers import copy_model, ferserve, free_port, is_serving, server_command
from stream_clips import moving_portrait, read_clip, switching_faces
from stream_load import EVERY_FRAME, LATEST, percentile, several, single_crops
from stream_quality import judge, reference, shown_after_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RunningServer
    from stream_clips import Clip

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results" / "streams.json"
FRESH: Final = {"1280x720 at 60/s": (1280, 720, 60), "3840x2160 at 30/s": (3840, 2160, 30)}
OVERLOAD: Final = 10


@contextlib.contextmanager
def base_server(checkout: Path, repository: Path, log_path: Path, model: str) -> Iterator[RunningServer]:
    """Runs the server of another checkout with the libraries of this environment."""
    address = f"127.0.0.1:{free_port()}"
    rooms = [checkout / room / "src" for room in ("proto", "server", "vision")]
    environment = {**with_benchmarks_on_path(), "PYTHONPATH": ":".join(map(str, rooms))}
    command = [sys.executable, "-m", "ferserve_server", "--model-repo", str(repository), "--default-model", model]
    command += ["--listen", address, "--http-listen", "off", "--metrics-listen", "off"]
    with server_command(command, address, is_serving, log_path, env=environment, cwd=checkout) as server:
        yield server


def resident_mib(server: RunningServer) -> float:
    """Sums the memory of a server's processes, in MiB."""
    total = 0
    for pid in processes_of(server.pid, server.tag):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return round(total / 1024, 1)


def processor_s(server: RunningServer) -> float:
    """Sums the processor time of a server's processes, in seconds. Source: proc(5), /proc/PID/stat."""
    ticks = 0
    for pid in processes_of(server.pid, server.tag):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def throughput(
    server: RunningServer, clip: Clip, seconds: float, *, tracked: bool, streams: int
) -> tuple[float, float]:
    """Measures streams that send as fast as they are answered: frames per second, and processor ms per frame."""
    before_s = processor_s(server)
    answers = await several(
        server.address,
        streams,
        clip.frames,
        policy=EVERY_FRAME,
        tracked=tracked,
        rate=None,
        clip_rate=clip.rate,
        until_s=time.monotonic() + seconds + 1.0,
        credit=8,
    )
    began = min(each.arrived_s[0] for each in answers) + 1.0
    arrived = [came for each in answers for came in each.arrived_s if came >= began]
    cpu_ms = (processor_s(server) - before_s) * 1e3 / sum(len(each.responses) for each in answers)
    return round(len(arrived) / (max(arrived) - began), 1), round(cpu_ms, 2)


async def freshness(server: RunningServer, clip: Clip, seconds: float) -> dict[str, Any]:
    """Measures the ages of a stream at its camera's rate, beside the time of a frame that is alone."""
    how: dict[str, Any] = {"tracked": True, "clip_rate": clip.rate}
    alone = await several(server.address, 1, clip.frames[:40], policy=EVERY_FRAME, rate=None, credit=1, **how)
    alone_ms = statistics.median(alone[0].ages_ms()[5:])
    memory = [resident_mib(server)]

    async def watch() -> None:
        for _ in range(4):
            await asyncio.sleep(seconds / 4)
            memory.append(resident_mib(server))

    watching = asyncio.create_task(watch())
    until_s = time.monotonic() + seconds
    (answers,) = await several(
        server.address, 1, clip.frames, policy=LATEST, rate=clip.rate, until_s=until_s, **how
    )
    await watching
    half = (answers.arrived_s[0] + answers.arrived_s[-1]) / 2
    ages, late = answers.ages_ms(), answers.ages_ms(half)
    bound_ms = 2 * alone_ms + 1e3 / clip.rate
    return {
        "alone_ms": round(alone_ms, 1),
        "bound_ms": round(bound_ms, 1),
        "age_p50_ms": percentile(ages, 50),
        "age_p95_ms": percentile(ages, 95),
        "age_p95_second_half_ms": percentile(late, 95),
        "analysed_share": round(len(ages) / len(answers.sent_s), 3),
        "every_frame_once_in_order": answers.in_order_once,
        "memory_mib": memory,
    }


async def overload(server: RunningServer, clip: Clip, seconds: float, capacity: float) -> dict[str, Any]:
    """Sends ten times the frames that the server answers a second, in streams of 30 a second."""
    alone_ms = await single_crops(server.address, time.monotonic() + 3)
    streams = max(2, round(OVERLOAD * capacity / 30))
    until_s = time.monotonic() + seconds
    crops = asyncio.create_task(single_crops(server.address, until_s))
    answers = await several(
        server.address,
        streams,
        clip.frames,
        policy=LATEST,
        tracked=True,
        rate=30.0,
        clip_rate=clip.rate,
        until_s=until_s,
    )
    ages = [
        response.age_ms
        for each in answers
        for response in each.responses
        if response.WhichOneof("outcome") == "analysis"
    ]
    return {
        "streams": streams,
        "sent_per_s": round(sum(len(each.sent_s) for each in answers) / seconds),
        "analysed_per_s": round(len(ages) / seconds, 1),
        "age_p50_ms": percentile(ages, 50),
        "age_p95_ms": percentile(ages, 95),
        "every_frame_once_in_order": all(each.in_order_once for each in answers),
        "crop_p50_ms": {"alone": percentile(alone_ms, 50), "beside": percentile(await crops, 50)},
        "crop_p95_ms": {"alone": percentile(alone_ms, 95), "beside": percentile(await crops, 95)},
    }


async def quality(server: RunningServer, clip: Clip, *, tracked: bool) -> Any:  # noqa: ANN401 - answers
    """Sends a clip once, every frame."""
    (answers,) = await several(
        server.address,
        1,
        clip.frames,
        policy=EVERY_FRAME,
        tracked=tracked,
        rate=None,
        clip_rate=clip.rate,
        credit=4,
    )
    return answers


def measure(options: argparse.Namespace, ours: RunningServer, base: RunningServer | None) -> dict[str, Any]:
    """Measures what the options ask for."""
    clips = [read_clip(path) for path in options.clips] or [moving_portrait(640, 480, 30, 6)]
    document: dict[str, Any] = {}
    if "throughput" in options.parts:
        document["throughput"] = _throughput(options, ours, base)
    if "freshness" in options.parts:
        document["freshness"] = {}
        for name, (width, height, rate) in FRESH.items():
            clip = moving_portrait(width, height, rate, 4)
            document["freshness"][name] = found = asyncio.run(freshness(ours, clip, options.fresh_s))
            print(name, found, flush=True)
    if "overload" in options.parts:
        rates = document.get("throughput", {}).get("tracked", {}).get("frames_per_s", [])
        capacity = statistics.median(rates) if rates else options.capacity
        clip = moving_portrait(640, 480, 30, 4)
        document["overload"] = found = asyncio.run(overload(ours, clip, options.overload_s, capacity))
        print("overload", found, flush=True)
    if "faces" in options.parts:
        document["faces"] = {clip.name: _faces(clip, ours, base) for clip in clips}
    if options.expressions:
        before, after = options.expressions
        clip = switching_faces(before, after, 30, 4)
        video_s, seen_s = shown_after_s(clip, asyncio.run(quality(ours, clip, tracked=True)))
        document["change_shown_after_s"] = {"video": video_s, "with_age": seen_s}
        print("change shown after", video_s, "s of the video,", seen_s, "s with the age", flush=True)
    return document


def _throughput(
    options: argparse.Namespace, ours: RunningServer, base: RunningServer | None
) -> dict[str, dict[str, list[float]]]:
    clip = moving_portrait(640, 480, 30, 6)
    variants: dict[str, tuple[RunningServer, bool]] = {"tracked": (ours, True), "untracked": (ours, False)}
    if base is not None:
        variants["base"] = base, False
    found: dict[str, dict[str, list[float]]] = {
        name: {"frames_per_s": [], "cpu_ms_per_frame": []} for name in variants
    }
    for turn in range(options.rounds):
        for name in list(variants)[:: 1 if turn % 2 == 0 else -1]:
            server, tracked = variants[name]
            rate, cpu_ms = asyncio.run(
                throughput(server, clip, options.seconds, tracked=tracked, streams=options.streams)
            )
            found[name]["frames_per_s"].append(rate)
            found[name]["cpu_ms_per_frame"].append(cpu_ms)
            print(f"{name:10} {rate:7.1f} frames/s {cpu_ms:7.2f} processor ms a frame", flush=True)
    return found


def _faces(clip: Clip, ours: RunningServer, base: RunningServer | None) -> dict[str, Any]:
    truth = reference(clip)
    found = {"tracked": judge(clip, asyncio.run(quality(ours, clip, tracked=True)), truth)._asdict()}
    if base is not None:
        found["base"] = judge(clip, asyncio.run(quality(base, clip, tracked=False)), truth)._asdict()
    for name, figures in found.items():
        print(f"{clip.name:30} {name:8} {figures}", flush=True)
    return found


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="*", help="video files")
    parser.add_argument("--base", type=Path, help="another checkout to compare with")
    parser.add_argument("--expressions", type=Path, nargs=2, help="two photographs of other expressions")
    parser.add_argument("--model", default="fer-nano")
    parser.add_argument(
        "--parts", nargs="*", default=["throughput", "freshness", "overload", "faces"], help="what to measure"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one run of throughput")
    parser.add_argument("--fresh-s", type=float, default=20.0)
    parser.add_argument("--overload-s", type=float, default=15.0)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--capacity", type=float, default=150.0, help="frames/s, where throughput is not measured")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = Path(folder)
        versions = sorted((ROOT / "model_repo" / options.model).iterdir())
        repository = copy_model(versions[-1], place / "models")
        ours = stack.enter_context(ferserve(repository, place / "ours.log", model=options.model))
        base = None
        if options.base:
            running = base_server(options.base, repository, place / "base.log", options.model)
            base = stack.enter_context(running)
        document = {**machine_facts(), "model": options.model, **measure(options, ours, base)}
    options.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
