"""`ferserve watch`: the faces of a video, frame by frame."""

from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain
from ferserve_client.cli.shots import Shots
from ferserve_client.cli.watch_outputs import (
    CsvOutput,
    DrawingOutput,
    JsonOutput,
    Output,
    ProgressOutput,
    Summary,
    progress_bar,
)
from ferserve_client.client import EmotionClient
from ferserve_client.errors import CallUnsupportedError, NotFoundError
from ferserve_client.options import OverloadPolicy
from ferserve_client.video.encoding import DEFAULT_JPEG_QUALITY, DEFAULT_MAX_SIDE, FrameEncoder
from ferserve_client.video.opencv import silence
from ferserve_client.video.sink import VideoFile, Window, can_show_windows
from ferserve_client.video.source import VideoSource


@connected
def watch(  # noqa: PLR0913 - one parameter an option
    connection: Connection,
    source: Annotated[str, typer.Argument(help="A video file, the index of a camera, or a URL.")],
    *,
    json: JsonOption = False,
    save: Annotated[
        Path | None, typer.Option(metavar="OUT.mp4", dir_okay=False, help="Write the annotated video here.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="OUT.csv", dir_okay=False, help="Write a line per face here.")
    ] = None,
    policy: Annotated[
        OverloadPolicy | None,
        typer.Option(
            help="latest: the newest frame wins, a file runs in real time. block: every frame is analysed. "
            "Not given: block for files, latest for cameras and URLs."
        ),
    ] = None,
    max_side: Annotated[
        int, typer.Option(min=64, help="Frames are shrunk to this many pixels on their longer side.")
    ] = DEFAULT_MAX_SIDE,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality of sent frames.")
    ] = DEFAULT_JPEG_QUALITY,
    grey: Annotated[bool, typer.Option("--grey", help="Send frames without their colour.")] = False,
    window: Annotated[
        bool, typer.Option(help="Show the video where there is a display. Q or Escape ends it.")
    ] = True,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Find and classify the faces of a video, a camera or a stream. Needs the extra video."""
    silence()
    summary = Summary()
    with ExitStack() as stack:
        client = stack.enter_context(connection.open())
        _greet(client)
        video = stack.enter_context(VideoSource(source))
        chosen = policy or ("latest" if video.live else "block")
        shows_window = window and can_show_windows()
        outputs: list[Output] = [summary]
        if json:
            outputs.append(JsonOutput(source))
        if csv is not None:
            outputs.append(CsvOutput(stack.enter_context(csv.open("w", newline="", encoding="utf-8"))))
        if save is not None or shows_window:
            file = stack.enter_context(VideoFile(save, video.fps)) if save is not None else None
            shown = stack.enter_context(Window(f"ferserve: {source}")) if shows_window else None
            outputs.append(DrawingOutput(file, shown))
        if not shows_window:
            outputs.append(ProgressOutput(stack.enter_context(progress_bar()), video.frame_count))
        shots = Shots(
            video,
            FrameEncoder(max_side, quality, grey),
            keep_pixels=save is not None or shows_window,
            in_real_time=chosen == "latest" and not video.live,
        )
        answers = client.stream_frames(shots.frames(), model=model, version=model_version, policy=chosen)
        with closing(shots), closing(answers):
            for answer in answers:
                shot, answer_in_source = shots.answered(answer)
                goes_on = [output.show(shot, answer_in_source) for output in outputs]
                if not all(goes_on):
                    break
    if not json:
        summary.print()
    if not summary.outcomes:
        complain(f"{source}: holds no frame that can be read")
        return 1
    return 0 if summary.all_answered else 1


def _greet(client: EmotionClient) -> None:
    """Ask for the server's health, which has a deadline as the stream has not, before anything opens."""
    # A server without a health service answers all the same, which is what was asked.
    with suppress(CallUnsupportedError, NotFoundError):
        client.health()
