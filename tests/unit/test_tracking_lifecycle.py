"""Tests motion and life of tracks, and the faces that a stream shows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ferserve_server.tracking.finder import FaceFinder
from ferserve_server.tracking.motion import begin, correct, predict
from ferserve_server.tracking.options import DEFAULT_TRACKING
from ferserve_server.tracking.search import SearchState, is_full_search_due, is_retry_due, is_scene_cut
from support.synthetic_faces import SyntheticView, face_at

FRAME_S = 1 / 30


def test_a_face_at_rest_stays_and_noise_is_averaged() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 3.0, (60, 2))
    motion = begin(face_at(300, 200).box)
    off = []
    for x, y in noise:
        motion = correct(predict(motion, FRAME_S), face_at(300 + x, 200 + y).box)
        off.append(math.hypot(motion.x - 300, motion.y - 200))
    assert np.mean(off[20:]) < 0.85 * np.mean(np.hypot(*noise[20:].T))


@pytest.mark.parametrize("rate", [5, 15, 30, 60])
def test_a_steady_walk_is_predicted(rate: int) -> None:
    motion = begin(face_at(100, 200).box)
    for frame in range(1, rate + 1):
        motion = correct(predict(motion, 1 / rate), face_at(100 + 200 * frame / rate, 200).box)
    assert motion.x == pytest.approx(300, abs=2)
    assert motion.x_velocity == pytest.approx(200, rel=0.15)
    assert predict(motion, 0.1).x == pytest.approx(320, abs=5)
    assert predict(motion, 0.5).x == pytest.approx(400, abs=40)  # it may have stopped meanwhile


@pytest.mark.parametrize(("first", "second"), [(0.1, 0.2), (0.0, 0.5), (1.0, 2.0)])
def test_predicting_in_two_steps_is_predicting_in_one(first: float, second: float) -> None:
    motion = correct(predict(begin(face_at(100, 200).box), 0.1), face_at(120, 210).box)
    assert predict(predict(motion, first), second) == pytest.approx(predict(motion, first + second))


class Show:
    """A finder and the frames that it is shown."""

    def __init__(self, **options: float) -> None:
        self.finder = FaceFinder(replace(DEFAULT_TRACKING, **options))
        self.view = SyntheticView([])

    def at(self, time_s: float, *faces, scene: int = 0):
        self.view = SyntheticView(faces, scene)
        return self.finder.find(self.view, time_s)

    def ids_at(self, time_s: float, *faces, scene: int = 0) -> list[int]:
        return [track.track_id for track in self.at(time_s, *faces, scene=scene).tracks]


def test_a_clear_face_is_shown_at_once_and_a_doubtful_one_when_it_is_found_again() -> None:
    show = Show()
    assert show.ids_at(0.0, face_at(300, 300), face_at(900, 300, score=0.0)) == [1]
    assert show.ids_at(0.03, face_at(300, 300), face_at(900, 300, score=0.0)) == [1, 2]


def test_a_low_score_starts_no_track() -> None:
    show = Show()
    assert [show.ids_at(frame * FRAME_S, face_at(300, 300, score=0.5)) for frame in range(20)] == [[]] * 20


def test_a_face_that_is_missed_for_a_moment_is_carried_and_then_hidden() -> None:
    show = Show()
    for frame in range(10):
        show.at(frame * FRAME_S, face_at(300 + 3 * frame, 300))
    (carried,) = show.at(10 * FRAME_S).tracks
    assert (carried.track_id, carried.detection) == (1, None)
    assert carried.motion.x == pytest.approx(330, abs=3)
    assert show.ids_at(9 * FRAME_S + 0.25) == []


def test_a_face_that_comes_back_in_time_keeps_its_number_and_later_gets_another() -> None:
    show = Show()
    assert show.ids_at(0.0, face_at(300, 300)) == [1]
    assert show.ids_at(0.5) == []
    assert show.ids_at(1.0, face_at(310, 300)) == [1]
    ended = show.at(2.6).ended
    assert [(track.track_id, track.last_seen_s) for track in ended] == [(1, 1.0)]
    assert show.ids_at(3.0, face_at(300, 300)) == [2]


def test_numbers_are_never_used_twice() -> None:
    show = Show()
    seen = []
    for number in range(5):
        seen.append(show.ids_at(3.0 * number, face_at(300, 300)))
        show.at(3.0 * number + 1.0)
    assert seen == [[1], [2], [3], [4], [5]]


def test_a_face_in_successive_frames_keeps_its_number_however_far_apart_they_are() -> None:
    show = Show()
    assert [show.ids_at(5.0 * number, face_at(300 + 10 * number, 300)) for number in range(5)] == [[1]] * 5


def test_a_scene_cut_ends_all_tracks_and_searches_the_full_frame() -> None:
    show = Show()
    show.at(0.0, face_at(300, 300), scene=1)
    found = show.at(FRAME_S, face_at(300, 300), scene=2)
    assert (found.scene_cut, found.full_search) == (True, True)
    assert [track.track_id for track in found.ended] == [1]
    assert [track.track_id for track in found.tracks] == [2]


def test_between_full_searches_only_the_surroundings_of_known_faces_are_searched() -> None:
    show = Show()
    show.at(0.0, face_at(300, 300), face_at(900, 300))
    show.at(FRAME_S, face_at(303, 300), face_at(900, 300))
    assert None not in show.view.searches
    assert len(show.view.searches) == 2
    show.at(0.6, face_at(330, 300), face_at(900, 300))
    assert show.view.searches == [None]


def test_a_face_that_is_not_where_it_was_expected_is_looked_for_everywhere() -> None:
    show = Show()
    show.at(0.0, face_at(300, 300))
    show.at(0.1, face_at(300, 300))
    found = show.at(0.2, face_at(700, 300))
    assert show.view.searches[-1] is None
    assert found.full_search


def test_many_faces_are_searched_for_in_the_full_frame() -> None:
    show = Show()
    faces = [face_at(100 + 120 * number, 300) for number in range(9)]
    show.at(0.0, *faces)
    show.at(FRAME_S, *faces)
    assert show.view.searches == [None]


def test_more_faces_than_may_be_followed_are_left_out() -> None:
    show = Show(max_tracks=3)
    faces = [face_at(100 + 120 * number, 300) for number in range(9)]
    assert len(show.ids_at(0.0, *faces)) == 3
    assert len(show.ids_at(0.6, *faces)) == 3


def test_movement_that_brings_no_new_face_is_searched_less_and_less_often() -> None:
    show = Show(full_search_interval_s=1.0)
    full_at = []
    for frame in range(60):
        show.view = SyntheticView([face_at(300, 300)], scene=0)
        thumbnail = show.view.thumbnail()
        thumbnail[14:, 26:] = 255 * (frame % 2)
        show.view.thumbnail = lambda shown=thumbnail: shown
        if show.finder.find(show.view, frame * FRAME_S).full_search:
            full_at.append(frame * FRAME_S)
    gaps = np.diff(full_at)
    assert gaps[0] == pytest.approx(0.167, abs=0.035)
    assert gaps[1] == pytest.approx(0.3, abs=0.035)
    assert gaps[2] == pytest.approx(0.6, abs=0.035)


def _thumbnail(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(40, 200, (18, 32), dtype=np.uint8)


def test_a_flash_or_a_fade_is_no_scene_cut() -> None:
    scene = _thumbnail()
    brighter = np.clip(scene.astype(int) + 40, 0, 255).astype(np.uint8)
    darker = (scene * 0.6).astype(np.uint8)
    assert not is_scene_cut(None, scene)
    assert not is_scene_cut(scene, scene)
    assert not is_scene_cut(scene, brighter)
    assert not is_scene_cut(scene, darker)
    assert is_scene_cut(scene, _thumbnail(1))
    assert is_scene_cut(scene, np.zeros_like(scene))


def test_movement_outside_the_known_faces_asks_for_a_full_search() -> None:
    still = _thumbnail()
    moved = still.copy()
    moved[2:7, 2:8] ^= 0x80
    state = SearchState(10.0, still, still)
    face_there = [face_at(200, 180, 150).box]

    def due(time_s: float, frame: np.ndarray, known: list) -> bool:
        return is_full_search_due(state, time_s, frame, known, (1280, 720), DEFAULT_TRACKING)

    elsewhere = [face_at(1000, 500).box]
    assert due(10.2, moved, elsewhere)
    assert not due(10.1, moved, elsewhere)
    assert not due(10.2, moved, face_there)
    assert not due(10.2, still, elsewhere)
    assert due(10.5, still, elsewhere)
    assert due(10.25, still, [])
    assert not is_retry_due(state, 10.1)
    assert is_retry_due(state, 10.2)
