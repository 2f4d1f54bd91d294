"""Serves a version through a pool of inference sessions, one for each batch that runs at once.

It checks the model's signature against the manifest, and returns the memory of a closed version to the system
instead of keeping it for the next one.
"""

from __future__ import annotations

import ctypes
import gc
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.serving_thread import priority, run_at_serving_priority
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision
from ferserve_server.models.golden import read_golden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import GoldenSet, ModelDescription, ServableId


def return_freed_memory() -> None:
    """Collects garbage, and returns the allocator's free memory to the system. Blocking, 10 to 60 ms; any thread.

    References alone do not free a version: TensorFlow's graphs refer to themselves, and so does what it makes
    constants of variables with. Of a version with 16 MiB of weights each load and unload left 100 MiB in such
    cycles, and 350 to 580 MiB free in the pools of glibc, which keeps blocks of that size. On systems without
    malloc_trim(3) the allocator decides.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl and macOS have no such function, Windows no such library
        return
    trim(0)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Describes an input or output tensor of a model.

    Attributes:
        dtype: By numpy's name.
        sides: Its shape, -1 for any side; () if their number is open.
    """

    dtype: str
    sides: tuple[int, ...]


def check_signature(
    inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], description: ModelDescription
) -> None:
    """Rejects a model whose inputs and outputs, by name, differ from its manifest.

    Raises:
        ModelRejectedError: SIGNATURE_MISMATCH.
    """
    wanted = description.input
    if list(inputs) != [wanted.name]:
        raise signature_mismatch(f"The inputs are {sorted(inputs)}, not [{wanted.name!r}].")
    taken = inputs[wanted.name]
    if taken != TensorSpec("uint8", (-1, wanted.height, wanted.width, 1)):
        raise signature_mismatch(f"The input is {taken.dtype} {list(taken.sides)}, not uint8 [N, H, W, 1].")
    if description.output not in outputs:
        raise signature_mismatch(f"There is no output {description.output!r}.")
    sides = outputs[description.output].sides
    if not sides or sides[-1] != len(description.labels):
        raise signature_mismatch(f"{description.output} is {list(sides)}, not one score per label.")
    _check_not_a_face(outputs, description.not_a_face_output)


def _check_not_a_face(outputs: Mapping[str, TensorSpec], name: str) -> None:
    """Checks the output for non-faces: float32 [N] or [N, 1].

    Raises:
        ModelRejectedError: SIGNATURE_MISMATCH.
    """
    if not name:
        return
    if name not in outputs:
        raise signature_mismatch(f"There is no output {name!r}, for which the manifest states a threshold.")
    found = outputs[name]
    if found.dtype != "float32" or found.sides[1:] not in {(), (1,)}:
        raise signature_mismatch(f"{name} is {found.dtype} {list(found.sides)}, not float32 [N].")


def output_names_of(description: ModelDescription) -> list[str]:
    """Lists the outputs that a session computes: the probabilities, then that of non-faces where it is used."""
    return [description.output, *([description.not_a_face_output] if description.not_a_face_output else [])]


def join_outputs(outputs: Sequence[npt.NDArray[np.float32]]) -> Scores:
    """Joins the outputs of one batch, float32 [N, K] and [N] or [N, 1]: a copy if there are two."""
    scores: Scores = outputs[0]
    if len(outputs) == 1:
        return scores
    joined = np.empty((len(scores), scores.shape[1] + 1), np.float32)
    joined[:, :-1] = scores
    joined[:, -1] = outputs[1].reshape(-1)
    return joined


def signature_mismatch(why: str) -> ModelRejectedError:
    """Returns the error of a model that differs from its manifest."""
    return ModelRejectedError("SIGNATURE_MISMATCH", why)


def _nothing() -> None:
    """Does nothing: memory is freed with its last reference."""


def _closed(_: Precision) -> Session:
    raise RuntimeError("The version was closed.")


@dataclass(frozen=True, slots=True)
class Session:
    """Represents a session for one batch at a time.

    Attributes:
        run: From uint8 [N, H, W, 1] to calibrated probabilities, float32 [N, K], which are the caller's to keep.
        close: Gives its memory back.
    """

    run: Callable[[CropBatch], Scores]
    close: Callable[[], None] = _nothing


class SessionServable:
    """Implements `domain.ports.Servable` on a pool of sessions.

    A session may compute on threads of its own, which permanently have the priority of the thread that made it. So
    a batch takes a session that was made at its own thread's priority: validation yields to clients, and clients
    never get a session of low priority.
    """

    def __init__(
        self,
        servable_id: ServableId,
        description: ModelDescription,
        open_session: Callable[[Precision], Session],
        *,
        executor_count: int,
        precision: Precision | None = None,
    ) -> None:
        """Opens the first session and runs it once, since first runs optimise the graph.

        Args:
            servable_id: Its id.
            description: The description in its manifest.
            open_session: Opens one more, on any thread; raises `precision_unsupported` where that is so.
            executor_count: Batches that run at once.
            precision: Its precision; None for the published one.
        """
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self.precision = precision or description.precision
        self._open_session = open_session
        self._sessions: list[Session] = []
        # The one used last is taken first: its weights are still in the caches. Appending and popping are atomic.
        self._idle: defaultdict[int, list[Session]] = defaultdict(list)
        self._idle[priority()].append(self._new_session())

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch."""
        idle = self._idle[priority()]
        try:
            session = idle.pop()
        except IndexError:  # a hung run keeps its session; the replacement thread needs another
            session = self._new_session()
        try:
            return session.run(crops)
        finally:
            idle.append(session)

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set of the version."""
        return read_golden(directory, self.description.input)

    def with_precision(self, precision: Precision) -> SessionServable:
        """Makes the same version in another precision."""
        if self.description.precision is Precision.INT8:
            raise precision_unsupported("The version was published in int8.")
        return SessionServable(
            self.id,
            self.description,
            self._open_session,
            executor_count=self.executor_count,
            precision=precision,
        )

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Opens and warms the sessions of all executors."""
        idle = self._idle[run_at_serving_priority(priority)]
        missing = self.executor_count - len(idle)
        with ThreadPoolExecutor(thread_count) as threads:
            idle += threads.map(lambda _: self._new_session(bucket_sizes, serves=True), range(missing))
        return_freed_memory()  # memory of loading and warming; in an engine process nothing else would need it

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Opens and warms one additional session."""
        own = self._idle[priority()]
        if len(self._sessions) > self.executor_count and own:
            return
        # Taken last: the others have been used more lately.
        own.insert(0, self._new_session(bucket_sizes))

    def close(self) -> None:
        """Frees the sessions' memory, and that of the graph with the last servable cast from it."""
        self._open_session = _closed
        self._idle.clear()
        while self._sessions:
            self._sessions.pop().close()
        return_freed_memory()

    def _new_session(self, bucket_sizes: Sequence[int] = (), *, serves: bool = False) -> Session:
        def make() -> Session:
            return self._open_session(self.precision)

        session = run_at_serving_priority(make) if serves else make()
        self._sessions.append(session)
        for size in (1, *bucket_sizes):
            session.run(self.description.input.blank(size))
        return session


def precision_unsupported(why: str) -> ModelRejectedError:
    """Returns the error of a precision that is unavailable here."""
    return ModelRejectedError(
        "PRECISION_UNSUPPORTED", f"{why} Use --precision auto or float32.", precision=Precision.BFLOAT16.value
    )
