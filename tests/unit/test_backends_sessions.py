"""Tests a version on the sessions of an engine: it closes all that it opens, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np
import pytest

from ferserve_server.backends.sessions import Session, SessionServable, return_freed_memory
from ferserve_server.domain.servable import InputSpec, ModelDescription, Precision, ServableId

DESCRIPTION = ModelDescription(("calm", "angry"), InputSpec("faces", 48, 48), "probabilities")
FACES = np.zeros((3, 48, 48, 1), np.uint8)


class Weights:
    """What an engine keeps of a version; it refers to itself, as TensorFlow's graphs do."""

    def __init__(self) -> None:
        self.closed_sessions = 0
        self.itself = self

    def open_session(self, _: Precision) -> Session:
        return Session(lambda crops: np.zeros((len(crops), 2), np.float32), self._close)

    def _close(self) -> None:
        self.closed_sessions += 1


def opened(weights: Weights) -> SessionServable:
    return SessionServable(ServableId("fer", 1), DESCRIPTION, weights.open_session, executor_count=2)


def test_a_closed_version_has_closed_every_session_that_it_opened():
    weights = Weights()
    servable = opened(weights)
    servable.warm_executors([1, 8], thread_count=1)
    servable.reserve_session([1, 8])
    servable.close()
    assert weights.closed_sessions == 3
    servable.close()
    assert weights.closed_sessions == 3


def test_nothing_of_a_version_stays_after_the_last_servable_of_it_was_closed():
    weights = Weights()
    gone = weakref.ref(weights)
    exact = opened(weights)
    rounded = exact.with_precision(Precision.BFLOAT16)
    del weights

    exact.close()
    assert gone() is not None
    assert rounded.predict(FACES).shape == (3, 2)
    rounded.close()
    assert gone() is None


def test_a_closed_version_opens_no_session_again():
    servable = opened(Weights())
    servable.close()
    with pytest.raises(RuntimeError, match="closed"):
        servable.predict(FACES)


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_where_the_allocator_is_unknown_garbage_is_collected_all_the_same(monkeypatch, error):
    def no_library(name):
        raise error(name)

    weights = Weights()
    gone = weakref.ref(weights)
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    del weights
    return_freed_memory()
    assert gone() is None
