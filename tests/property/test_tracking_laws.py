"""Tests laws of tracking: numbers stay with their faces, and smoothing is independent of the frame rate."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from ferserve_server.tracking.finder import FaceFinder
from ferserve_server.tracking.options import DEFAULT_TRACKING
from ferserve_server.tracking.smoothing import first_expression, smoothed
from support.synthetic_faces import SyntheticView, face_at, id_at

SEEDS = st.integers(0, 2**32 - 1)
SIDE = 100.0


@given(SEEDS, st.integers(1, 5), st.integers(2, 40), st.sampled_from([1, 5, 15, 30, 60]))
def test_a_number_never_moves_to_another_face_while_boxes_overlap(
    seed: int, count: int, frame_count: int, rate: int
) -> None:
    """Faces jump about as they like, by less than half their size, and never touch where another one was or is."""
    rng = np.random.default_rng(seed)
    places = rng.uniform((100, 100), (1200, 650), (count, 2))
    apart = 2.1 * SIDE
    assume(all(np.abs(a - b).max() >= apart for i, a in enumerate(places) for b in places[:i]))
    finder, ids = FaceFinder(DEFAULT_TRACKING), {}
    for frame in range(frame_count):
        for index in range(count):
            moved = places[index] + rng.uniform(-0.35, 0.35, 2) * SIDE
            others = np.delete(places, index, axis=0)
            # Clear of where the others are and were: those of this frame that moved already had the same margin.
            if not len(others) or np.abs(others - moved).max(axis=1).min() >= 1.5 * SIDE:
                places[index] = moved
        faces = [face_at(x, y, SIDE) for x, y in places]
        tracks = finder.find(SyntheticView(faces), frame / rate).tracks
        for index, face in enumerate(faces):
            number = id_at(tracks, face.box)
            assert number is not None
            assert ids.setdefault(index, number) == number
    assert len(set(ids.values())) == count


@given(SEEDS, st.floats(0.1, 1.0), st.sampled_from([15, 30, 60]), st.floats(0, 200), st.floats(2.0, 4.0))
def test_a_face_on_a_smooth_path_keeps_its_number_when_it_is_hidden_for_up_to_a_second(
    seed: int, hidden_s: float, rate: int, speed: float, period_s: float
) -> None:
    """Faces sway by 0.3 sides, in two seconds or more, and walk at up to 2 sides a second; each is hidden once.

    With a period of 1.06 s, most of which is hidden, one in some thousand paths gets a new number.
    """
    rng = np.random.default_rng(seed)
    phase, hidden_from = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 2.0)
    finder = FaceFinder(DEFAULT_TRACKING)
    numbers = set()
    for frame in range(int(3.2 * rate)):
        time_s = frame / rate
        x = 150 + speed * time_s + 0.3 * SIDE * math.sin(phase + 2 * math.pi * time_s / period_s)
        faces = [face_at(x, 200, SIDE), face_at(640, 560, SIDE)]
        shown = faces[1:] if hidden_from <= time_s < hidden_from + hidden_s else faces
        numbers |= {track.track_id for track in finder.find(SyntheticView(shown), time_s).tracks}
    assert numbers == {1, 2}


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 6), st.floats(0.2, 0.99)), min_size=1, max_size=8),
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(0.05, 2.0),
)
def test_smoothing_is_independent_of_the_frame_rate(
    pieces: list[tuple[int, int, float]], rate: int, other_rate: int, half_life_s: float
) -> None:
    """An expression that is constant for a while leads to the same state however often it is looked at."""
    first = np.full(7, 1 / 7)
    ends = []
    for step in (rate, other_rate):
        state = first_expression(0.0, first)
        ticks = 0
        for length, label, confidence in pieces:
            scores = np.full(7, (1 - confidence) / 6)
            scores[label] = confidence
            for part in range(1, length * step + 1):
                state = smoothed(state, (ticks + part / step) / 30, scores, half_life_s)
            ticks += length
        ends.append(state)
    np.testing.assert_allclose(ends[0].logits, ends[1].logits, atol=1e-9)
    np.testing.assert_allclose(ends[0].mean_scores, ends[1].mean_scores, atol=1e-9)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2**31)), min_size=1, max_size=40), st.floats(0.01, 5))
def test_smoothed_scores_are_probabilities_within_those_that_were_seen(
    frames: list[tuple[float, int]], half_life_s: float
) -> None:
    state, time_s, seen = None, 0.0, []
    for gap_s, seed in frames:
        time_s += gap_s
        scores = np.random.default_rng(seed).dirichlet(np.ones(7))
        seen.append(np.log(np.clip(scores, 0.01, 1)))
        state = first_expression(time_s, scores) if state is None else smoothed(state, time_s, scores, half_life_s)
        assert abs(state.scores.sum() - 1) < 1e-9
        assert (state.logits <= np.max(seen, axis=0) + 1e-9).all()
        assert (state.logits >= np.min(seen, axis=0) - 1e-9).all()
        assert state.ahead_since_s is None or state.logits.argmax() != state.label


@given(SEEDS, st.integers(1, 15))
def test_the_state_of_a_stream_is_bounded(seed: int, frame_count: int) -> None:
    """Detections that make no sense at all never leave more tracks than may be followed."""
    rng = np.random.default_rng(seed)
    finder = FaceFinder(DEFAULT_TRACKING)
    for frame in range(frame_count):
        faces = [
            face_at(x, y, side, score)
            for x, y, side, score in rng.uniform((0, 0, 5, 0), (1280, 720, 400, 1), (int(rng.integers(0, 120)), 4))
        ]
        found = finder.find(SyntheticView(faces, int(rng.integers(0, 3))), frame / 30)
        numbers = [track.track_id for track in found.tracks]
        assert len(set(numbers)) == len(numbers) <= DEFAULT_TRACKING.max_tracks
        assert len(finder._tracks.tracks) <= DEFAULT_TRACKING.max_tracks
