"""Runs `ferserve watch`: the faces of videos, cameras and streams, frame by frame."""

from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain, print_json, print_table
from ferserve_client.cli.detection import (
    DetectorOption,
    MinFaceOption,
    ScoreThresholdOption,
    TilesOption,
    detection_options,
)
from ferserve_client.cli.output_files import check_outputs
from ferserve_client.cli.progress import WatchProgress
from ferserve_client.cli.signals import StopRequest, stop_signals
from ferserve_client.cli.watching import Watching
from ferserve_client.errors import CallUnsupportedError, NotFoundError
from ferserve_client.options import OverloadPolicy, TrackingOptions
from ferserve_client.outputs.annotated import AnnotatedVideos, WindowOutput, video_paths
from ferserve_client.outputs.output import OutputSet
from ferserve_client.outputs.plot import Plot
from ferserve_client.outputs.report import Report
from ferserve_client.outputs.streams import FrameTable, JsonLines
from ferserve_client.outputs.summary import SUMMARY_COLUMNS, Summary
from ferserve_client.video.encoding import DEFAULT_JPEG_QUALITY, DEFAULT_MAX_SIDE, FrameEncoder
from ferserve_client.video.extras import load_av, load_cv2
from ferserve_client.video.sources import SourceKind, kind_of
from ferserve_client.video.window import Window
from ferserve_client.watch.options import SessionOptions

_OUTPUTS = "Outputs"
_FRAMES = "Frames"


@connected
def watch(  # noqa: PLR0913 - one parameter and one output an option
    connection: Connection,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Video files, indexes of cameras, or URLs.")
    ],
    *,
    json: JsonOption = False,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="OUT.csv", dir_okay=False, help="Write a row per face.", rich_help_panel=_OUTPUTS),
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.parquet",
            dir_okay=False,
            help="The same as Parquet (extra parquet).",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.mp4",
            help="Write the annotated video, with its sound. Of several sources: a folder.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.html",
            dir_okay=False,
            help="Write one page with the timeline and every track.",
            rich_help_panel=_OUTPUTS,
        ),
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Show a picture of each track in the report.", rich_help_panel=_OUTPUTS)
    ] = True,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png", dir_okay=False, help="Plot the timeline (extra plot).", rich_help_panel=_OUTPUTS
        ),
    ] = None,
    window: Annotated[
        bool,
        typer.Option(
            "--window", help="Show the video (extra window). Q or Escape ends it.", rich_help_panel=_OUTPUTS
        ),
    ] = False,
    policy: Annotated[
        OverloadPolicy | None,
        typer.Option(
            help="latest: the newest frame wins, a file runs in real time. every_frame: nothing is left out. "
            "max_age: as latest, see --max-age. Not given: every_frame for recorded videos, latest for live ones.",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    max_age: Annotated[
        int | None,
        typer.Option(
            min=1, max=60_000, help="Milliseconds after which a frame is too old.", rich_help_panel=_FRAMES
        ),
    ] = None,
    max_side: Annotated[
        int,
        typer.Option(
            min=64, help="Frames are shrunk to this many pixels on their longer side.", rich_help_panel=_FRAMES
        ),
    ] = DEFAULT_MAX_SIDE,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality of sent frames.", rich_help_panel=_FRAMES)
    ] = DEFAULT_JPEG_QUALITY,
    grey: Annotated[
        bool, typer.Option("--grey", help="Send frames without their color.", rich_help_panel=_FRAMES)
    ] = False,
    tracking: Annotated[
        bool, typer.Option(help="Follow faces over frames, and steady their emotions.", rich_help_panel=_FRAMES)
    ] = True,
    patience: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds for which a lost server or live source is tried again.",
            rich_help_panel=_FRAMES,
        ),
    ] = 30.0,
    detector: DetectorOption = None,
    score_threshold: ScoreThresholdOption = None,
    min_face: MinFaceOption = None,
    tiles: TilesOption = False,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Find and classify the faces of videos, cameras and streams. Needs the extra media.

    Exit code 1: something was not answered, a video is damaged, or a live source was lost for good.
    """
    _check(sources, policy, max_age)
    saved = [] if save is None else video_paths(save, sources)
    files = [where for where in sources if kind_of(where) is SourceKind.FILE]
    check_outputs([*saved, csv, parquet, report, plot], files)
    options = SessionOptions(
        model=model,
        version=model_version,
        policy=policy,
        max_age_ms=max_age,
        detection=detection_options(detector, score_threshold, min_face, tiles=tiles),
        tracking=TrackingOptions() if tracking else None,
        encoder=FrameEncoder(max_side, quality, grey),
        keep_pixels=save is not None or window or (report is not None and thumbnails),
        answer_timeout_s=connection.timeout_s,
        patience_s=patience,
    )
    summary = Summary()
    with ExitStack() as stack:
        _greet(connection)
        watching = Watching(sources, options, connection, complain)
        stack.callback(watching.close)
        output_set = OutputSet(complain)
        stack.callback(output_set.close)
        output_set.open("summary", lambda: summary)
        if json:
            output_set.open("stdout", lambda: JsonLines(print_json))
        for table in (csv, parquet):
            if table is not None:
                output_set.open(str(table), partial(FrameTable, table))
        if save is not None:
            output_set.open(str(save), lambda: AnnotatedVideos(saved, sources))
        if report is not None:
            output_set.open(str(report), lambda: Report(report, thumbnails=thumbnails))
        if plot is not None:
            output_set.open(str(plot), lambda: Plot(plot))
        shown = Window("ferserve watch", len(sources)) if window else None
        output_set.open("screen", lambda: WindowOutput(shown) if shown else WatchProgress(watching.sessions))
        request = stack.enter_context(stop_signals())
        watching.run(output_set, lambda: _asked_to_stop(request, shown))
        output_set.close()
    if not json and summary.sources:
        print_table(SUMMARY_COLUMNS, summary.rows())
    for problem in summary.problems():
        complain(problem)
    if request.exit_code is not None:
        return request.exit_code
    return 0 if summary.all_answered and output_set.all_whole and watching.all_opened else 1


def _check(sources: list[str], policy: OverloadPolicy | None, max_age: int | None) -> None:
    """Reject what cannot work before anything is sent.

    Raises:
        MissingExtraError: A library is not installed.
        typer.BadParameter: Options do not go together.
    """
    if any(kind_of(where) is not SourceKind.CAMERA for where in sources):
        load_av()
    load_cv2()
    if (policy == "max_age") != (max_age is not None):
        raise typer.BadParameter("--policy max_age and --max-age MILLISECONDS go together")


def _asked_to_stop(request: StopRequest, window: Window | None) -> bool:
    if window is not None:
        window.poll()
    return request.signal_number is not None or (window is not None and window.asked_to_close)


def _greet(connection: Connection) -> None:
    """Ask for the server's health, which has a deadline as the stream has not, before anything opens."""
    # A server without a health service answers all the same, which is what was asked.
    with connection.open() as client, suppress(CallUnsupportedError, NotFoundError):
        client.health()
