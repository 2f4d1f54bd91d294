"""Runs `ferserve bench`: measures a server under load."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.aio_client import AsyncEmotionClient
from ferserve_client.bench.arrivals import Arrivals
from ferserve_client.bench.capacity import Bound, CapacitySearch
from ferserve_client.bench.loads import Load, run_load
from ferserve_client.bench.measurement import OK, Measurement
from ferserve_client.bench.page import result_page
from ferserve_client.bench.workloads import CallKind, Workload
from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain, print_json, print_table
from ferserve_client.cli.pictures import expanded
from ferserve_client.retry import NO_RETRIES

_OPEN = "Open loop"
BUSY_SHARE = 0.9
"""Share of one processor from which on the client may be the limit: it runs on one thread."""


@connected
def bench(  # noqa: PLR0913 - one parameter an option
    connection: Connection,
    call: Annotated[
        CallKind,
        typer.Argument(help="classify: face crops; analyze: pictures; the same as streams of messages."),
    ] = "classify",
    *,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Picture or folder to send; may be repeated.")
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="Crops of one call (noise).")] = 1,
    images_per_call: Annotated[int, typer.Option(min=1, help="Pictures of one call.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers that wait for answers, or streams.")] = 8,
    window: Annotated[int, typer.Option(min=1, help="Unanswered messages of a stream.")] = 8,
    duration: Annotated[float, typer.Option(min=0.1, help="Measured seconds of each load.")] = 10.0,
    warmup: Annotated[float, typer.Option(min=0.0, help="Seconds of load before.")] = 2.0,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Calls or messages a second, whatever the answers.", rich_help_panel=_OPEN),
    ] = None,
    arrivals: Annotated[
        Arrivals, typer.Option(help="Gaps: of many callers, or equal.", rich_help_panel=_OPEN)
    ] = "poisson",
    find_capacity: Annotated[
        bool,
        typer.Option("--find-capacity", help="Search for the highest rate within --p99.", rich_help_panel=_OPEN),
    ] = False,
    p99: Annotated[
        float, typer.Option(min=0.1, help="Highest 99th percentile, in milliseconds.", rich_help_panel=_OPEN)
    ] = 100.0,
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT.html", dir_okay=False, help="Write the result as a page.")
    ] = None,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Measure a server under load. Only point it at servers that are yours.

    Without --rate callers wait for each answer before the next call (closed loop); with it calls come when they
    are due, and latencies count from then (open loop). Exit code 1: calls failed, or no rate held the bound.
    """
    pictures = _pictures(call, image)
    workload = Workload(call, faces, pictures, images_per_call, model, model_version, connection.timeout_s)
    load = Load(workload, duration, warmup, concurrency, window, rate, arrivals)
    with connection.open() as client:
        client.health()  # says that no server is there before anything is measured

    def open_client() -> AsyncEmotionClient:
        return AsyncEmotionClient(
            connection.server, tls=connection.tls, timeout_s=connection.timeout_s, retry=NO_RETRIES
        )

    measurements: list[Measurement] = []
    capacity: float | None = None
    if find_capacity:
        capacity = _search(load, Bound(p99), open_client, measurements)
    else:
        measurements.append(asyncio.run(run_load(load, open_client)))
    _warn(measurements)
    facts = {"server": connection.server, "call": call, "items per call": workload.items_per_call,
             "callers or streams": concurrency, "seconds": duration, "arrivals": arrivals}  # fmt: skip
    title = f"{call}: {measurements[-1].calls_per_s:.1f} a second"
    if find_capacity:
        facts["bound"] = f"p99 {p99:g} ms"
        title = f"{call}: no rate holds" if capacity is None else f"{call}: capacity {capacity:.1f} a second"
    if html is not None:
        html.write_text(result_page(title, facts, measurements), "utf-8")
    if json:
        result = {**facts, "loads": [each.record() for each in measurements]}
        print_json({**result, "capacity": capacity} if find_capacity else result)
    else:
        print_table(COLUMNS, [_row(each) for each in measurements])
        if find_capacity:
            print(title)
    failed = sum(each.failed_count for each in measurements)
    return int(capacity is None) if find_capacity else int(failed > 0)


COLUMNS = ("load", "calls/s", "items/s", "p50", "p90", "p99", "p99.9", "max ms", "failed")
"""Headings of the table on the screen."""


def _pictures(call: CallKind, image: list[Path] | None) -> tuple[bytes, ...]:
    if call in {"analyze", "stream_frames"} and not image:
        raise typer.BadParameter(f"{call} sends pictures: name some with --image FILE")
    return tuple(path.read_bytes() for path in expanded(image)) if image else ()


def _search(
    load: Load, bound: Bound, open_client: Callable[[], AsyncEmotionClient], measurements: list[Measurement]
) -> float | None:
    """Search for the capacity, from half of what a closed loop reaches."""
    closed = asyncio.run(run_load(replace(load, rate=None, duration_s=min(3.0, load.duration_s)), open_client))
    measurements.append(closed)
    search = CapacitySearch(max(1.0, 0.5 * closed.calls_per_s))
    while (rate := search.next_rate()) is not None:
        found = asyncio.run(run_load(replace(load, rate=rate), open_client))
        measurements.append(found)
        holds = bound.holds(found)
        search.observe(rate, holds=holds)
        p99 = found.latencies_ms.get("p99")
        latency = "no answer" if p99 is None else f"p99 {p99:.1f} ms"
        complain(
            f"{rate:.1f} a second: {latency}, {found.failed_count} failed: {'holds' if holds else 'too much'}"
        )
    return search.highest_held


def _warn(measurements: list[Measurement]) -> None:
    busiest = max(each.client_busy_share for each in measurements)
    if busiest > BUSY_SHARE:
        complain(f"this client was busy for {busiest:.0%} of the time: the server may be capable of more")
    outcomes = {outcome for each in measurements for outcome in each.outcomes if outcome != OK}
    if outcomes:
        complain(f"failures: {', '.join(sorted(outcomes))}")


def _row(measurement: Measurement) -> list[str]:
    load = "closed" if measurement.offered_rate is None else f"{measurement.offered_rate:.1f}/s"
    names = ("p50", "p90", "p99", "p99.9", "max")
    latencies = [measurement.latencies_ms.get(name) for name in names]
    shown = ["" if value is None else f"{value:.1f}" for value in latencies]
    rates = [f"{measurement.calls_per_s:.1f}", f"{measurement.items_per_s:.1f}"]
    return [load, *rates, *shown, str(measurement.failed_count)]
