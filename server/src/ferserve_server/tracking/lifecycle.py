"""Manages the lifecycle of tracks: start, display, loss and end. Pure; all times are seconds of the video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ferserve_server.tracking.association import Candidate, associate
from ferserve_server.tracking.boxes import MAX_SHARED_AREA
from ferserve_server.tracking.motion import Motion, begin, correct, predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.tracking.boxes import Detection
    from ferserve_server.tracking.options import TrackingOptions

CONFIRMING_EVIDENCE: Final = 0.7
"""Sum of a track's scores from which it is shown: one clear face at once, doubtful ones when they are found
again."""

UNSCORED_EVIDENCE: Final = 0.4
"""Score that counts for a detection without one: a face that Haar invents is rarely in two frames at one place."""

MAX_UNCONFIRMED_S: Final = 0.25
"""Time for which a track that was not shown yet may miss its face."""

CARRIED_S: Final = 0.2
"""Time for which a face that is not found is shown where the motion model puts it. Detectors miss single frames
of a face that turns or blinks; a head that is gone for longer has left or turned away."""


@dataclass(frozen=True, slots=True)
class Track:
    """Describes one tracked face.

    Attributes:
        track_id: Number in the stream, from 1, given when the track is first shown; 0 before.
        motion: Where it is by the motion model.
        evidence: Sum of its scores while it is not shown yet.
        first_seen_s: Time of its first detection.
        last_seen_s: Time of its last detection.
        detection: Its detection in the newest frame, or None if it was not found there.
    """

    track_id: int
    motion: Motion
    evidence: float
    first_seen_s: float
    last_seen_s: float
    detection: Detection | None

    def is_shown(self, time_s: float) -> bool:
        """Returns whether the face is part of the answer to the frame of this time."""
        return self.track_id > 0 and time_s - self.last_seen_s <= CARRIED_S


@dataclass(frozen=True, slots=True)
class TrackSet:
    """Holds all tracks of a stream at the time of its newest frame.

    Attributes:
        time_s: That time.
        tracks: The tracks, oldest first.
        next_id: Number of the next track that is shown.
    """

    time_s: float = 0.0
    tracks: tuple[Track, ...] = ()
    next_id: int = 1

    @property
    def shown(self) -> tuple[Track, ...]:
        """Returns the tracks that are part of the answer to the newest frame."""
        return tuple(track for track in self.tracks if track.is_shown(self.time_s))


def predicted(tracks: TrackSet, time_s: float) -> TrackSet:
    """Predicts all tracks at the time of the next frame, `time_s`."""
    elapsed_s = max(0.0, time_s - tracks.time_s)
    moved = tuple(replace(each, motion=predict(each.motion, elapsed_s)) for each in tracks.tracks)
    return replace(tracks, time_s=max(time_s, tracks.time_s), tracks=moved)


def advance(
    tracks: TrackSet, detections: Sequence[Detection], high_score: float, options: TrackingOptions
) -> tuple[TrackSet, tuple[Track, ...]]:
    """Updates the tracks with the detections of a frame.

    Args:
        tracks: The tracks, predicted for the frame, with the detections of the frame before.
        detections: At most one per face, best first.
        high_score: Detections from this score on may start a track.
        options: Options of tracking.

    Returns:
        The tracks after the frame, and those shown before that ended with it.
    """
    time_s = tracks.time_s
    alive = [each for each in tracks.tracks if each.detection is not None or _lives(each, time_s, options)]
    candidates = [
        Candidate(each.motion.box, each.detection.box if each.detection else None, time_s - each.last_seen_s)
        for each in alive
    ]
    track_of = associate(candidates, detections, high_score)
    detection_of = {track: detections[detection] for detection, track in track_of.items()}
    next_id = tracks.next_id
    kept: list[Track] = []
    ended = [each for each in tracks.tracks if each not in alive]
    for index, track in enumerate(alive):
        found = detection_of.get(index)
        moved = replace(track, detection=None) if found is None else _seen(track, found, time_s)
        if not track.track_id and moved.evidence >= CONFIRMING_EVIDENCE:
            moved, next_id = replace(moved, track_id=next_id), next_id + 1
        (kept if _lives(moved, time_s, options) else ended).append(moved)
    for index, detection in enumerate(detections):
        if index in track_of or not _may_start(detection, high_score, kept, options):
            continue
        started = Track(0, begin(detection.box), _evidence(detection), time_s, time_s, detection)
        if started.evidence >= CONFIRMING_EVIDENCE:
            started, next_id = replace(started, track_id=next_id), next_id + 1
        kept.append(started)
    return TrackSet(time_s, tuple(kept), next_id), tuple(each for each in ended if each.track_id)


def cut(tracks: TrackSet, time_s: float) -> tuple[TrackSet, tuple[Track, ...]]:
    """Ends all tracks, because the scene is another one from `time_s` on.

    Returns:
        An empty set that goes on with the numbers, and the tracks that were shown.
    """
    ended = tuple(each for each in tracks.tracks if each.track_id)
    return TrackSet(max(time_s, tracks.time_s), (), tracks.next_id), ended


def _evidence(detection: Detection) -> float:
    return detection.score or UNSCORED_EVIDENCE


def _seen(track: Track, detection: Detection, time_s: float) -> Track:
    return replace(
        track,
        motion=correct(track.motion, detection.box),
        evidence=track.evidence if track.track_id else track.evidence + _evidence(detection),
        last_seen_s=time_s,
        detection=detection,
    )


def _lives(track: Track, time_s: float, options: TrackingOptions) -> bool:
    lost_s = time_s - track.last_seen_s
    return lost_s <= (options.max_lost_s if track.track_id else min(MAX_UNCONFIRMED_S, options.max_lost_s))


def _may_start(detection: Detection, high_score: float, tracks: Sequence[Track], options: TrackingOptions) -> bool:
    """Returns whether a detection without a track is a new face: not a second box of one that was found."""
    return (
        len(tracks) < options.max_tracks
        and (detection.score >= high_score or detection.score == 0.0)
        and not any(
            each.detection is not None
            and detection.box.shared_area(each.detection.box)
            > MAX_SHARED_AREA * min(detection.box.area, each.detection.box.area)
            for each in tracks
        )
    )
