"""Writes the tables of docs/performance.md from benchmarks/results/; with --check, tells whether they are right.

Run as a part of `make bench`, `make bench-peers` and `make bench-lifecycle`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cycle_figures import cycle_table
from detection_tables import detection_table
from large_calls import large_calls_table
from peer_tables import peer_table
from picture_tables import pictures_table
from scaling import scaling_table
from serving_tables import (
    batcher_table,
    engine_table,
    overload_table,
    serving_table,
    start_table,
    transport_table,
)
from swap_figures import swap_table

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
GOAL_RATIO = 1.5


def facts(document: dict[str, Any]) -> str:
    """Describes the machine of a result."""
    when = f" on {document['date']}" if "date" in document else ""
    rounds = f" Medians of {document['rounds']} rounds." if document.get("rounds", 1) > 1 else ""
    return (
        f"Measured{when} on {document['core_count']} cores of an {document['machine']}, "
        f"TensorFlow {document['tensorflow']}; {document['other_work_share']:.0%} of the processor time meanwhile "
        f"went to other work.{rounds}"
    )


def swap_text(document: dict[str, Any]) -> list[str]:
    """Returns the block of benchmarks/results/swaps.json."""
    ratio = document["latency"]["all"]["p99_ratio"]
    ready, swap = document["publish_to_ready_s"], document["swap_s"]
    summary = (
        f"{document['swaps']} swaps, {document['requests']:,} requests: **{document['failed_requests']} failed**, "
        f"{document['mixed_version_requests']} with scores that are not all of the version named, "
        f"{document['requests_that_went_back']} answered by an older version than an answer before them. From a "
        f"version's rename to its readiness {ready['median']:.1f} s ({ready['max']:.1f} s at most), until the old "
        f"one was unloaded {swap['median']:.1f} s ({swap['max']:.1f} s). The goal, a p99 during swaps of at most "
        f"{GOAL_RATIO:g} times that of the rest, is {'met' if ratio <= GOAL_RATIO else '**missed**'}."
    )
    return [facts(document), "", summary, "", *swap_table(document)]


def cycle_text(document: dict[str, Any]) -> list[str]:
    """Returns the block of benchmarks/results/load_cycles.json."""
    return [facts(document), "", *cycle_table(document)]


def plain(make: Callable[[dict[str, Any]], list[str]]) -> Callable[[dict[str, Any]], list[str]]:
    """Returns a block of what it was measured on and a table."""
    return lambda document: [facts(document), "", *make(document)]


BLOCKS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "engine": plain(engine_table),
    "batcher_overhead": plain(batcher_table),
    "large_calls": plain(large_calls_table),
    "transport": plain(transport_table),
    "pictures": plain(pictures_table),
    "detection": plain(detection_table),
    "serving": plain(serving_table),
    "scaling": plain(scaling_table),
    "overload": plain(overload_table),
    "start_time": plain(start_table),
    "peers": plain(peer_table),
    "swaps": swap_text,
    "load_cycles": cycle_text,
}


def filled(text: str) -> str:
    """Returns the document with every block made again.

    Raises:
        ValueError: A block is missing.
    """
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name}: made by benchmarks/performance_tables.py -->\n", f"<!-- end of {name} -->"
        block = "\n".join(make(json.loads((RESULTS / f"{name}.json").read_text())))
        pattern = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
        text, count = pattern.subn(lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{DOCUMENT.name} must have one block {name!r}, not {count}")
    return text


def main() -> None:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is wrong")
    options = parser.parse_args()
    text = DOCUMENT.read_text()
    if options.check:
        sys.exit(filled(text) != text)
    DOCUMENT.write_text(filled(text))


if __name__ == "__main__":
    main()
