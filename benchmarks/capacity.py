"""Computes what many cameras need, from committed reports, and simulates where queues form in one server.

Takes no load itself: costs come from benchmarks/results, the rest are the assumptions in `ASSUMPTIONS`. Writes
benchmarks/results/capacity.json and the tables of docs/scaling.md. Run with `make capacity`; it takes seconds.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from queue_simulation import Arrival, Machine, Outcome, Simulation, batch_times
from serving_tables import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESULTS = Path(__file__).resolve().parent / "results"
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"

ASSUMPTIONS: Final[dict[str, float]] = {
    "frames_per_s": 5.0,
    "faces_per_frame": 1.0,
    "cores_per_server": 16,
    "use_of_cores": 0.6,
    "searches_per_s_with_tracking": 2.0,
    "frames_in_memory_per_camera": 2.0,
    "link_gbit_per_s": 10.0,
    "use_of_link": 0.6,
}
"""What no report says; the document explains each."""

CAMERAS: Final = (1_000, 100_000)

FRAME: Final = "640 x 480"

_DETECTOR: Final = "yunet, default (480, 0.8)"
_CLIP: Final = "white_house_performance"
_FACES_LOAD: Final = "unary, 1 face, 128 at once"
_ENGINE: Final = "as served, float32, 2 callers"


def costs(reports: Mapping[str, Any]) -> dict[str, float]:
    """Returns the costs of single things, from the reports.

    Args:
        reports: The documents `serving`, `pictures` and `detection` of benchmarks/results.
    """
    picture = reports["pictures"]["sizes"][FRAME]
    return {
        "face_core_s": reports["serving"]["loads"][_FACES_LOAD]["default"]["cpu_s_per_1000_faces"] / 1000,
        "decode_core_s": picture["full"]["decode_ms"] / 1000,
        "search_core_s": reports["detection"]["clips"][_CLIP][_DETECTOR]["ms"] / 1000,
        "frame_bytes": picture["file_bytes"],
        "server_mib": reports["serving"]["loads"][_FACES_LOAD]["default"]["pss_mib"],
    }


def needs(cameras: int, cost: Mapping[str, float], assumed: Mapping[str, float] = ASSUMPTIONS) -> dict[str, float]:
    """Returns what so many cameras need. Pure.

    Args:
        cameras: Number of cameras, each with one stream of JPEG frames.
        cost: See `costs`.
        assumed: See `ASSUMPTIONS`.
    """
    frames_per_s = cameras * assumed["frames_per_s"]
    faces_per_s = frames_per_s * assumed["faces_per_frame"]
    fixed = frames_per_s * cost["decode_core_s"] + faces_per_s * cost["face_core_s"]
    searches = min(assumed["searches_per_s_with_tracking"], assumed["frames_per_s"]) * cameras
    cores = (fixed + frames_per_s * cost["search_core_s"]) / assumed["use_of_cores"]
    servers = math.ceil(cores / assumed["cores_per_server"])
    gbit_per_s = frames_per_s * cost["frame_bytes"] * 8 / 1e9
    width, height = (int(each) for each in FRAME.split(" x "))
    frames_mib = cameras * assumed["frames_in_memory_per_camera"] * width * height * 3 / 2**20
    return {
        "cameras": cameras,
        "frames_per_s": frames_per_s,
        "cores": math.ceil(cores),
        "cores_at_least_with_tracking": math.ceil(
            (fixed + searches * cost["search_core_s"]) / assumed["use_of_cores"]
        ),
        "cores_of_model": round(faces_per_s * cost["face_core_s"] / assumed["use_of_cores"], 1),
        "servers": servers,
        "memory_gib": round((servers * cost["server_mib"] + frames_mib) / 1024, 1),
        "gbit_per_s": round(gbit_per_s, 1),
        "proxies": math.ceil(gbit_per_s / assumed["link_gbit_per_s"] / assumed["use_of_link"]),
        "connections_of_clients": cameras,
        "streams_per_server": math.ceil(cameras / servers),
    }


def scenarios(machine: Machine, seed: int = 0) -> dict[str, list[Arrival]]:
    """Returns the arrivals of each scenario, for one server.

    Args:
        machine: The server, which decides how much is much.
        seed: Of the random arrivals.
    """
    random = np.random.default_rng(seed)
    frames_per_s = ASSUMPTIONS["frames_per_s"]
    cameras = int(0.6 * machine.vision_threads / machine.picture_s / frames_per_s)
    rate = 128 / machine.batch_s(128) * machine.executors

    def frames(phases: Iterable[float], seconds: float = 10.0) -> list[Arrival]:
        ticks = int(seconds * frames_per_s)
        return [
            Arrival(phase + tick / frames_per_s, f"camera {number}", is_picture=True)
            for number, phase in enumerate(phases)
            for tick in range(ticks)
        ]

    def faces(share: float, seconds: float = 2.0, timeout_s: float | None = None) -> list[Arrival]:
        gaps = random.exponential(1 / (share * rate), int(share * rate * seconds))
        callers = random.integers(0, 64, len(gaps))
        return [
            Arrival(float(at), f"caller {caller}", timeout_s=timeout_s)
            for at, caller in zip(np.cumsum(gaps), callers, strict=True)
        ]

    late = [Arrival(1.0 + i * 1e-4, "bulk", face_count=512) for i in range(8)]
    return {
        f"{cameras} cameras, phases spread": frames(np.arange(cameras) / cameras / frames_per_s),
        f"{cameras} cameras, all in phase": frames(np.zeros(cameras)),
        f"{cameras} cameras, random phases": frames(random.random(cameras) / frames_per_s),
        f"{cameras} cameras, 2 s of frames at once": frames(np.arange(cameras) / cameras / frames_per_s)
        + [
            Arrival(5.0, f"camera {n}", is_picture=True)
            for n in range(cameras)
            for _ in range(int(2 * frames_per_s))
        ],
        "faces at 60 % of the engine": faces(0.6),
        "faces at 90 % of the engine": faces(0.9),
        "faces at 60 %, then 8 x 512 faces of one caller": faces(0.6) + late,
        "faces at 150 %, no deadlines": faces(1.5),
        "faces at 150 %, deadlines of 50 ms": faces(1.5, timeout_s=0.05),
    }


def summary(outcomes: Iterable[Outcome], simulation: Simulation) -> dict[str, Any]:
    """Returns the figures of a run; latencies of requests that were answered, without those of caller `bulk`."""
    outcomes = [each for each in outcomes if each.arrival.caller != "bulk"]
    answered = [each for each in outcomes if each.latency_s is not None]

    def p99_ms(values: list[float]) -> float:
        return round(float(np.percentile(values, 99)) * 1e3, 2) if values else 0.0

    return {
        "requests": len(outcomes),
        "rejected_share": round(1 - len(answered) / len(outcomes), 3),
        "most_pictures": simulation.most_pictures,
        "vision_wait_p99_ms": p99_ms([each.vision_wait_s for each in outcomes]),
        "most_faces": simulation.most_faces,
        "queue_p99_ms": p99_ms([each.queue_s for each in answered]),
        "latency_p99_ms": p99_ms([each.latency_s for each in answered if each.latency_s is not None]),
    }


def server(reports: Mapping[str, Any]) -> Machine:
    """Returns the server of the simulation: two cores for the engine, as measured, and the others for pictures."""
    cost = costs(reports)
    rates = {int(size): rate for size, rate in reports["engine"]["faces_per_s"][_ENGINE].items()}
    vision_threads = int(ASSUMPTIONS["cores_per_server"]) - 2
    return Machine(vision_threads, cost["decode_core_s"] + cost["search_core_s"], 2, batch_times(rates, 2))


def simulate(machine: Machine) -> dict[str, Any]:
    """Runs all scenarios."""
    found = {}
    for name, arrivals in scenarios(machine).items():
        simulation = Simulation(machine)
        found[name] = summary(simulation.run(arrivals), simulation)
    return found


def tables(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the tables of docs/scaling.md by name."""
    cost = document["costs"]
    cost_rows = [
        [
            "a face, one to a call",
            f"{cost['face_core_s'] * 1e3:.2f} ms",
            "`serving.json`: fer-nano, 128 calls at once",
        ],
        [f"decoding a JPEG of {FRAME}", f"{cost['decode_core_s'] * 1e3:.1f} ms", "`pictures.json`"],
        ["finding its faces", f"{cost['search_core_s'] * 1e3:.1f} ms", "`detection.json`: YuNet, 480 pixels"],
        ["a server in memory", f"{cost['server_mib']:.0f} MiB", "`serving.json`: proportional set size"],
        ["a frame on the network", f"{cost['frame_bytes'] / 1e3:.0f} kB", "`pictures.json`"],
    ]
    labels = {
        "frames_per_s": "frames/s",
        "cores": "cores, each frame searched",
        "cores_at_least_with_tracking": "cores, whole frames searched twice a second",
        "cores_of_model": "of these for the model",
        "servers": "servers of 16 cores",
        "streams_per_server": "streams on each",
        "memory_gib": "memory, GiB",
        "gbit_per_s": "network, Gbit/s",
        "proxies": "proxies with 10 Gbit/s",
        "connections_of_clients": "connections of cameras",
    }
    need_rows = [
        [label, *(f"{each[key]:,g}" if each[key] < 1000 else f"{each[key]:,.0f}" for each in document["needs"])]
        for key, label in labels.items()
    ]
    simulated_rows = [
        [
            name,
            f"{each['rejected_share']:.0%}",
            f"{each['most_pictures']:,}",
            f"{each['vision_wait_p99_ms']:.0f} ms",
            f"{each['most_faces']:,}",
            f"{each['queue_p99_ms']:.1f} ms",
            f"{each['latency_p99_ms']:.0f} ms",
        ]
        for name, each in document["simulated"].items()
    ]
    heads = [
        "arrivals",
        "rejected",
        "pictures waiting, at most",
        "wait, p99",
        "faces waiting, at most",
        "wait, p99",
        "answer, p99",
    ]
    return {
        "costs": table(["what", "costs", "from"], cost_rows),
        "needs": table(["", *(f"{each['cameras']:,} cameras" for each in document["needs"])], need_rows),
        "simulated": table(heads, simulated_rows),
    }


def filled(text: str, document: Mapping[str, Any]) -> str:
    """Returns the text of docs/scaling.md with every table made again.

    Raises:
        ValueError: A table has no place in it.
    """
    for name, lines in tables(document).items():
        begin, end = f"<!-- {name}: made by benchmarks/capacity.py -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
        block = "\n".join(lines)
        text, count = pattern.subn(lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{DOCUMENT.name} must have one block {name!r}, not {count}")
    return text


def main() -> None:
    """Computes and writes."""
    names = ("serving", "pictures", "detection", "engine")
    reports = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in names}
    cost = costs(reports)
    document = {
        "measured_on": {name: [reports[name]["date"], reports[name]["machine"]] for name in names},
        "assumptions": ASSUMPTIONS,
        "costs": cost,
        "needs": [needs(cameras, cost) for cameras in CAMERAS],
        "simulated": simulate(server(reports)),
    }
    (RESULTS / "capacity.json").write_text(json.dumps(document, indent=1) + "\n")
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), document))
    for lines in tables(document).values():
        print("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
