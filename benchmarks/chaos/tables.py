"""Writes the tables of docs/chaos.md from benchmarks/results/chaos.json. Pure but for `write_page`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from loads import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAGE: Final = ROOT / "docs" / "chaos.md"
_BLOCK: Final = re.compile(r"(<!-- chaos: made by make chaos -->\n).*?(<!-- end of chaos -->)", re.DOTALL)


def write_page(document: Mapping[str, Any]) -> None:
    """Puts the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(), document))


def filled(text: str, document: Mapping[str, Any]) -> str:
    """Returns the page with its tables made again.

    Raises:
        ValueError: The page has no place for them.
    """
    block = "\n".join(chaos_tables(document))
    text, count = _BLOCK.subn(lambda found: f"{found[1]}\n{block}\n\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"{PAGE.name} must have one block of tables, not {count}")
    return text


def chaos_tables(document: Mapping[str, Any]) -> list[str]:
    """Returns a paragraph and a table for each part that was run."""
    facts = (
        f"Measured on {document['date']} on {document['core_count']} cores of an {document['machine']}, "
        f"TensorFlow {document['tensorflow']}, in {document['seconds']:.0f} s; "
        f"{document['other_work_share']:.0%} of the processor time meanwhile went to other work."
    )
    lines = [facts]
    for name, write in _PARTS.items():
        if "failed" in document.get(name, {}):
            lines += ["", f"**{name} did not end:** {document[name]['failed']}"]
        elif name in document:
            lines += ["", *write(document[name])]
    return lines


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    names = list(heads)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]


def _calls(counts: Mapping[str, int]) -> list[str]:
    """Returns the answered calls, the others, and what became of those."""
    failed = {outcome: count for outcome, count in counts.items() if outcome != "OK"}
    text = ", ".join(f"{count:,} {outcome}" for outcome, count in failed.items()) or "-"
    return [f"{counts.get('OK', 0):,}", f"{sum(failed.values()):,}", text]


def _restarts(part: Mapping[str, Any]) -> list[str]:
    rows = [
        [server, run["restarts"], caller, *_calls(counts)]
        for server, run in part.items()
        for caller, counts in run["calls"].items()
    ]
    codes = ", ".join(f"{server} {run['exit_codes_not_0']}" for server, run in part.items())
    text = (
        "Two servers are stopped with SIGTERM and started again alternately. No caller but `ferserve_client` "
        f"retries. Exit codes other than 0: {codes}."
    )
    return [
        text,
        "",
        *_table(("servers", "restarts", "caller", "answered", "failed", "with"), rows),
    ]


def _engine_losses(part: Mapping[str, Any]) -> list[str]:
    rows = []
    for standby, run in part["by_standby_count"].items():
        kill, hang = run["kill_s"], run["hang_s"]
        times = [f"{value:.2f} s" for value in (kill["median"], kill["max"], hang["median"], hang["max"])]
        rows.append([standby, *times, *_calls(run["calls"])])
    heads = ("standby engines", "kill to answer", "most", "hang to answer", "most", "answered", "failed", "with")
    text = (
        f"Engines lost in a row, {part['kills']} by SIGKILL and {part['hangs']} by SIGSTOP; one caller without "
        "retries."
    )
    return [
        text,
        "",
        *_table(heads, rows),
    ]


def _storms(part: Mapping[str, Any]) -> list[str]:
    rows = []
    for load, servers in part["loads"].items():
        for server, parts in servers.items():
            (crowd,) = (figures for name, figures in parts.items() if name != "neighbour")
            beside = parts["neighbour"]
            share = crowd["faces_per_s"] / part["peaks"][server]
            rows.append([load, f"{share:.0%}", f"{beside['p50_ms']:.1f} ms", f"{beside['answered_share']:.0%}"])
    heads = ("load", "goodput, of the peak", "another caller's median", "its calls answered in time")
    text = (
        "Callers of 16 faces with deadlines of ten batches, half of them cancelled early, and one caller with 200 "
        "unanswered messages."
    )
    return [
        text,
        "",
        *_table(heads, rows),
    ]


def _soak(part: Mapping[str, Any]) -> list[str]:
    rows = [
        [what, f"{values['first']:,}", f"{values['last']:,}", f"{values['max']:,}"]
        for what, values in (("MiB (PSS)", part["memory_mib"]), ("descriptors", part["descriptors"]))
    ]
    text = (
        f"Mixed work for {part['seconds']:,} s; medians of the first and the last quarter. Exit code "
        f"{part['exit_code']}."
    )
    return [
        text,
        "",
        *_table(("all processes", "first", "last", "most"), rows),
        "",
        *_table(
            ("caller", "answered", "failed", "with"),
            ([caller, *_calls(counts)] for caller, counts in part["calls"].items()),
        ),
    ]


def _log_sinks(part: Mapping[str, Any]) -> list[str]:
    rows = [
        [sink, f"{run['recovered_s']:.2f} s", f"{run['stopped_s']:.2f} s", run["exit_code"]]
        for sink, run in part.items()
    ]
    heads = ("log", "engine killed: to the next answer", "SIGTERM to the end", "exit code")
    return ["A log that nobody can write to.", "", *_table(heads, rows)]


def _idle_connections(part: Mapping[str, Any]) -> list[str]:
    kept = ", ".join(f"{name} {count:,}" for name, count in part["kept"].items())
    text = (
        f"{part['tried_per_port']:,} idle connections from one address at every port; kept: {kept}. "
        f"The engine killed meanwhile was back after {part['recovered_s']:.2f} s, and the server stopped within "
        f"{part['stopped_s']:.2f} s with exit code {part['exit_code']}."
    )
    return [text]


_PARTS: Final = {
    "restarts": _restarts,
    "engine_losses": _engine_losses,
    "storms": _storms,
    "soak": _soak,
    "log_sinks": _log_sinks,
    "idle_connections": _idle_connections,
}
