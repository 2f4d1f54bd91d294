"""Prepares a version for serving: verifies, loads, warms, validates and tunes it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Tuning, ValidationFigures
from ferserve_server.models.daemon_call import call_on_daemon_thread
from ferserve_server.models.golden import check_golden_file
from ferserve_server.models.manifest import read_manifest, verify_files
from ferserve_server.models.precision import settle_precision
from ferserve_server.models.tuning import BucketRules, choose_buckets, measure_curve
from ferserve_server.models.tuning_cache import Measured, TuneCache
from ferserve_server.models.validation import check_labels, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferserve_server.domain.ports import Loader, Servable
    from ferserve_server.domain.servable import GoldenSet, ServableId
    from ferserve_server.models.precision import PrecisionCandidate
    from ferserve_server.models.signature import SignatureVerifier
    from ferserve_server.models.source import RepositorySource
    from ferserve_server.models.validation import ValidationLimits

log = structlog.get_logger(__name__)

_SWITCH_INTERVAL_S: Final = 0.5e-3
"""Interpreter switch interval of the loading thread, in seconds, because TensorFlow reads a SavedModel in Python
for some 0.1 s and an answer passes several threads: at Python's 5 ms it would wait that long at each."""


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """Represents a version that may answer requests, with its validation results and tuning."""

    servable: Servable
    validation: ValidationFigures
    tuning: Tuning


class VersionPreparer:
    """Loads and validates versions on a thread. Event loop only.

    It takes at most one core from live traffic: one thread, one version and one batch at a time. Within a batch
    the engine uses as many threads as its own settings allow, 1 by default. While no version is active there is no
    traffic to protect, and it takes as many cores as the version will have executors.

    Args of the constructor:
        source: Locates versions.
        loader: Loads them.
        limits: The limits that they must meet.
        bucket_rules: Rules for the choice of batch sizes.
        cache: Keeps measurements.
        signatures: Verifies their signatures; None if they need none.
        timeout_s: Maximum time for a version as a whole, in seconds. Its steps have limits of their own where
            versions run in processes of their own; a thread of this process cannot be ended, and is abandoned.
    """

    def __init__(
        self,
        source: RepositorySource,
        loader: Loader,
        limits: ValidationLimits,
        bucket_rules: BucketRules | None = None,
        cache: TuneCache | None = None,
        *,
        signatures: SignatureVerifier | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self._signatures = signatures
        self._timeout_s = timeout_s
        self._stopped = threading.Event()
        self._limits = limits
        self._source = source
        self._loader = loader
        self._bucket_rules = bucket_rules or BucketRules()
        self._cache = cache or TuneCache()

    async def prepare(self, servable_id: ServableId, active: Servable | None) -> PreparedVersion:
        """Verifies, loads, warms and validates a version. Takes seconds; await one before the next.

        Args:
            servable_id: The version.
            active: The version that answers requests now, leased for as long as this takes; None if none does.

        Raises:
            ModelRejectedError: It may not be served.
            Exception: Any exception of the engine.
        """
        work = partial(self._prepare, servable_id, active)
        with _short_switch_interval():
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await call_on_daemon_thread(work, lambda late: late.servable.close())
            except TimeoutError as error:
                raise ModelRejectedError(
                    "LOAD_TIMED_OUT", f"Loading and validating it took more than {self._timeout_s:g} s."
                ) from error

    def stop(self) -> None:
        """Ends the running preparation, and all later ones, at the next checkpoint. Any thread."""
        self._stopped.set()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ModelRejectedError("LOAD_CANCELLED", "The server is being stopped.")

    def _prepare(self, servable_id: ServableId, active: Servable | None) -> PreparedVersion:
        self._check()
        directory = self._source.directory(servable_id)
        manifest = read_manifest(directory)
        if (manifest.name, manifest.version) != (servable_id.name, servable_id.version):
            raise ModelRejectedError(
                "MANIFEST_MISMATCH", f"The manifest is that of {manifest.name}/{manifest.version}."
            )
        if self._signatures is not None:
            self._signatures.verify(directory, manifest)
        check_labels(manifest.description.labels, active.description.labels if active else None)
        verify_files(directory, manifest, self._check)
        check_golden_file(directory)
        known = self._cache.read(manifest.content_sum)
        servable = self._loader.load(servable_id, directory, manifest.description)
        try:
            golden = servable.read_golden(directory)
        except BaseException:
            servable.close()
            raise
        rest = time.sleep if active else _no_rest
        candidate = settle_precision(
            servable, golden, self._limits, known_speedup=known.bfloat16_speedup, rest=rest
        )
        try:
            tuning = self._tune(candidate, golden, known, active)
            validation = self._compare(candidate, golden, active)
        except BaseException:
            candidate.servable.close()
            raise
        found = Measured(tuning.bfloat16_speedup, tuning.latency_s)
        if found != known:
            self._cache.write(manifest.content_sum, found)
        return PreparedVersion(candidate.servable, validation, tuning)

    def _tune(
        self, candidate: PrecisionCandidate, golden: GoldenSet, known: Measured, active: Servable | None
    ) -> Tuning:
        sizes, servable = self._limits.bucket_sizes, candidate.servable
        latency_s = dict(known.latency_s)
        measured = self._limits.validated_sizes
        if self._bucket_rules.needs_times and set(latency_s) != set(measured):
            latency_s = measure_curve(servable, golden.faces, measured, rest=time.sleep if active else _no_rest)
        used = choose_buckets(sizes, latency_s, self._bucket_rules)
        servable.warm_executors(used, 1 if active else servable.executor_count)
        log.info(
            "version tuned",
            servable=str(servable.id),
            precision=servable.precision.value,
            bfloat16_speedup=candidate.bfloat16_speedup,
            bucket_sizes=used,
            latency_ms={size: round(seconds * 1e3, 3) for size, seconds in latency_s.items()},
        )
        return Tuning(servable.precision, used, candidate.bfloat16_speedup, latency_s)

    def _compare(
        self, candidate: PrecisionCandidate, golden: GoldenSet, active: Servable | None
    ) -> ValidationFigures:
        if active is None:
            return ValidationFigures(candidate.difference)
        limits = self._limits
        return ValidationFigures(
            candidate.difference,
            compare(
                candidate.servable,
                active,
                golden.faces,
                candidate.scores,
                limits.bucket_sizes,
                latency_factor=limits.latency_factor,
            ),
        )


def _no_rest(_: float) -> None:
    """Does nothing: there is no live traffic to yield to."""


@contextlib.contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Shortens the interpreter's switch interval for the duration of the block."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(min(usual_s, _SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)
