"""Declares the options of the search for faces that several commands share."""

from typing import Annotated

import typer

from ferserve_client.options import DetectionOptions, Detector

_PANEL = "Search for faces"

DetectorOption = Annotated[
    Detector | None, typer.Option(help="Detector. Not given: the server's.", rich_help_panel=_PANEL)
]
ScoreThresholdOption = Annotated[
    float | None,
    typer.Option(min=0.01, max=1.0, help="Lowest detector score of a face.", rich_help_panel=_PANEL),
]
MinFaceOption = Annotated[
    int | None,
    typer.Option(min=16, max=4096, help="Smallest face, in pixels of the searched copy.", rich_help_panel=_PANEL),
]
TilesOption = Annotated[
    bool,
    typer.Option("--tiles", help="Search at full resolution too: small faces in crowds.", rich_help_panel=_PANEL),
]


def detection_options(
    detector: Detector | None, score_threshold: float | None, min_face: int | None, *, tiles: bool
) -> DetectionOptions | None:
    """Return the options that were given; None if none was: the server's settings hold."""
    if detector is None and score_threshold is None and min_face is None and not tiles:
        return None
    return DetectionOptions(
        detector=detector, score_threshold=score_threshold, min_face_pixels=min_face, tiles=tiles
    )
