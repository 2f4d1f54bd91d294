"""A caller who is alone is served where it stands: on the event loop, without a thread.

Handing a face to a thread and back costs 0.1 ms and more, on a virtual machine whose cores sleep in between
(benchmarks/batcher_overhead.py). With one caller there is nothing to gather and nobody to keep waiting, so the
model may run in place. It must not cost those who come later, nor hide that they came:

- only for batches that are expected to take no longer than `inline_s`, so that nobody waits longer than that;
- only after `PROOF` requests in a row that met no other, on an engine that therefore works;
- of every `CYCLE` requests, `PROBES` go over a thread all the same: two callers then meet, and the rule ends;
- what takes less than `QUICK_S` runs in place in any company: handing it over would keep the others as long;
- an engine that hangs in place takes the event loop with it. `watch` notices, and ends the process for its
  supervisor to start it again (docs/adr/0012).
"""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Servable

log = structlog.get_logger(__name__)

PROOF: Final = 32
CYCLE: Final = 80
PROBES: Final = 16

QUICK_S: Final = 100e-6
"""Less than what handing a batch to a thread and back takes of the processor, in seconds. With 32 callers and a
model that takes no time, 0.13 ms of a request's 0.46 ms were for that."""

_FORGETTING: Final = 1.02
"""How much longer the shortest run counts as after each other one: a model that slows down is noticed after some
dozens of batches, and one batch that another process held up changes nothing."""

EXIT_HUNG: Final = 70
"""Exit code of a process whose engine hung on the event loop: EX_SOFTWARE of sysexits.h."""


class Solitude:
    """Counts requests in a row that met no other one. Event loop only."""

    def __init__(self) -> None:
        self.streak = 0

    def arrived(self, *, others: bool) -> bool:
        """Notes a request, and says whether it may be served in place.

        Args:
            others: Whether another request waits or runs.
        """
        self.streak = 0 if others else self.streak + 1
        return self.streak > PROOF and (self.streak - PROOF - 1) % CYCLE < CYCLE - PROBES


class InPlace:
    """Runs batches on the event loop for a caller who is alone. Event loop only, but for its watchdog."""

    def __init__(
        self,
        servable: Servable,
        bucket_sizes: Sequence[int],
        inline_s: float,
        execution_timeout_s: float,
        *,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        """Starts the watchdog, if anything may run in place.

        Args:
            servable: What to run.
            bucket_sizes: Sizes that need no padding; others are left to the threads.
            inline_s: Longest run to be expected, in seconds; 0 runs nothing in place.
            execution_timeout_s: A run of this length counts as hung.
            end_process: Ends the process, with an exit code.
        """
        self._servable = servable
        self._bucket_sizes = frozenset(bucket_sizes)
        self._inline_s = inline_s
        self._timeout_s = execution_timeout_s
        self._end_process = end_process
        self._solitude = Solitude()
        self._shortest_s: dict[int, float] = {}
        self._run_number = 0
        self._running = False
        self._closed = threading.Event()
        if inline_s > 0:
            threading.Thread(target=self._watch, name="watch-in-place", daemon=True).start()

    def scores(self, crops: CropBatch, *, others: bool, expected_s: float) -> Scores | None:
        """The scores of a request that may be served in place; None leaves it to the threads.

        Args:
            crops: uint8 [N, H, W, 1].
            others: Whether another request waits or runs.
            expected_s: How long a batch takes, in seconds; 0 if that is not known yet.
        """
        if self._inline_s <= 0:
            return None
        alone = self._solitude.arrived(others=others)
        if not 0 < self._shortest_s.get(len(crops), 0.0) < QUICK_S:
            fits = 0 < expected_s <= self._inline_s and len(crops) in self._bucket_sizes
            if not (alone and fits):
                return None
        self._run_number += 1
        self._running = True
        try:
            scores = self._servable.predict(crops)
        except Exception:  # noqa: BLE001 - the threads run it again, find the face at fault, and log
            return None
        finally:
            self._running = False
        # One number that is finite only if all are, in half the time of looking at each.
        return scores if math.isfinite(np.vdot(scores, scores)) else None

    def executed(self, row_count: int, inference_s: float) -> None:
        """Notes how long a batch took, in seconds, wherever it ran; `row_count` with its padding."""
        shortest_s = self._shortest_s.get(row_count, inference_s)
        self._shortest_s[row_count] = min(shortest_s * _FORGETTING, inference_s)

    def close(self) -> None:
        """Ends the watchdog."""
        self._closed.set()

    def _watch(self) -> None:
        """Ends the process when one run is seen twice, `execution_timeout_s` apart."""
        seen = -1
        while not self._closed.wait(self._timeout_s):
            number = self._run_number
            if self._running and number == seen:
                log.critical("engine hung on the event loop; ending the process", timeout_s=self._timeout_s)
                self._end_process(EXIT_HUNG)
                return
            seen = number
