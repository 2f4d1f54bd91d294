"""Supervises all worker processes and broadcasts model changes to them.

A change counts as made only after all worker processes are synced.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.models.catalog import ServiceState
from ferserve_server.runtime.background_tasks import supervise
from ferserve_server.workers.json_codec import write_value
from ferserve_server.workers.process import MAX_START_S, WorkerProcess, WorkerStartError, watch_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping

    from ferserve_server.domain.models import Acquire, Models
    from ferserve_server.domain.servable import ModelStatus
    from ferserve_server.workers.json_codec import Json
    from ferserve_server.workers.process import WorkerPlan


log = structlog.get_logger(__name__)

CHANGES: Final = frozenset({"refresh", "load", "unload", "set_alias", "promote", "roll_back"})
"""Changes that worker processes may request; methods of `domain.models.ModelChanges`."""

_RESTART_RANGE_S: Final = (0.1, 5.0)
"""First and maximum pause before a worker process is restarted, in seconds; doubled at each short-lived start."""

_STABLE_AFTER_S: Final = 10.0
"""Minimum lifetime, in seconds, after which a worker process's end does not count as a failed start."""

_CANARY_BROADCAST_INTERVAL_S: Final = 1.0
"""Interval at which canary figures are broadcast, in seconds: as often as they are judged."""


_MAX_SYNC_S: Final = 1.0
"""Maximum wait for workers to sync, in seconds, because the client that made the change waits for its answer."""


class WorkerSupervisor:
    """Supervises the worker processes of a service. Event loop only.

    Args of the constructor:
        plan: Configures their start.
        count: Number of worker processes.
        models: The models.
        default_model: Name of the one for requests that name none.
        notification_handlers: Handlers of their notifications, by name; get the process's key and the value.
        request_handlers: Handlers of their requests, by name, beside those for changes.
        on_worker_ended: Called with the key of a process that has ended.
        count_failure: Called with the name of a task of this object that failed and is restarted.
    """

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        plan: WorkerPlan,
        count: int,
        models: Models,
        *,
        default_model: str,
        notification_handlers: Mapping[str, Callable[[Hashable, Json], None]],
        request_handlers: Mapping[str, Callable[[Json], Awaitable[object]]],
        on_worker_ended: Callable[[Hashable], None],
        count_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._count = count
        self._models = models
        self._default_model = default_model
        self._notification_handlers = notification_handlers
        self._request_handlers = {**request_handlers, "change": self._change}
        self._on_worker_ended = on_worker_ended
        self._count_failure = count_failure
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, WorkerProcess] = {}
        self._serials: dict[int, int] = {}
        self._supervisor_tasks: list[asyncio.Task[None]] = []
        self._ending = False
        self._stale = False
        self.restart_count = 0

    @property
    def running_count(self) -> int:
        """Returns the number of worker processes that accept calls."""
        return sum(worker.listening.done() and not worker.ended.is_set() for worker in self._workers.values())

    @property
    def accepting_workers(self) -> list[WorkerProcess]:
        """Returns the worker processes that accept connections."""
        return [worker for worker in self._workers.values() if worker.takes_connections]

    @property
    def face_count(self) -> int:
        """Returns the number of unanswered faces of all of them."""
        return sum(worker.face_count for worker in self._workers.values())

    @property
    def pids(self) -> list[int]:
        """Returns the process ids of the running ones."""
        return [worker.pid for worker in self._workers.values() if not worker.ended.is_set()]

    async def start(self) -> None:
        """Starts all of them, and returns when all accept calls.

        Raises:
            WorkerStartError: One did not get that far.
        """
        first = await asyncio.gather(*(self._start(index) for index in range(self._count)))
        try:
            async with asyncio.timeout(MAX_START_S):
                await asyncio.gather(*(worker.listening for worker in first))
        except TimeoutError as error:
            raise WorkerStartError(f"a worker process did not take calls in within {MAX_START_S:g} s") from error
        self._supervisor_tasks = [
            self._loop.create_task(
                supervise(f"worker {index}", partial(self._supervise_worker, index), self._count_failure)
            )
            for index in range(len(first))
        ]
        self._supervisor_tasks.append(
            self._loop.create_task(supervise("canary figures", self._broadcast_canaries, self._count_failure))
        )

    def state_changed(self) -> None:
        """Broadcasts the models, once for all changes of an event-loop iteration."""
        if not self._stale:
            self._stale = True
            self._loop.call_soon(self.broadcast_changes)

    def broadcast_changes(self) -> None:
        """Broadcasts pending changes now."""
        if self._stale:
            self._stale = False
            state = self._state()
            for worker in self._workers.values():
                worker.notify("state", state)

    async def sync(self) -> None:
        """Waits until every worker process is synced with the models."""
        self._stale = True
        self.broadcast_changes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_SYNC_S):
                await asyncio.gather(*(worker.sync() for worker in self._workers.values()))

    async def drain(self, timeout_s: float) -> bool:
        """Drains all of them; returns whether all accepted calls were answered within the time."""
        self._ending = True
        running = [worker for worker in self._workers.values() if not worker.ended.is_set()]
        for worker in running:
            worker.notify("drain", None)
        waiting = [worker.drained for worker in running]
        done, late = await asyncio.wait(waiting, timeout=timeout_s) if waiting else (set(), set())
        return not late and all(future.result() for future in done)

    async def close(self) -> None:
        """Ends all of them."""
        self._ending = True
        for task in self._supervisor_tasks:
            task.cancel()
        await asyncio.gather(*self._supervisor_tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._workers.values()))

    def _state(self) -> object:
        models = self._models
        return write_value(ServiceState(self._default_model, models.default_ready, models.models()))

    async def _start(self, index: int) -> WorkerProcess:
        serial = self._serials[index] = self.restart_count
        notification_handlers = {
            name: partial(take, (index, serial)) for name, take in self._notification_handlers.items()
        }
        worker = WorkerProcess(self._plan, notification_handlers, self._request_handlers, self.broadcast_changes)
        # Noted before it runs, so that it misses no change.
        self._workers[index] = worker
        await worker.start(self._state())
        log.info("worker process started", worker=index, pid=worker.pid)
        return worker

    async def _supervise_worker(self, index: int) -> None:
        """Restarts a worker process whenever it has ended or hangs."""
        pause_s, max_pause_s = _RESTART_RANGE_S
        key = (index, self._serials[index])
        worker = self._workers[index]
        while True:
            started_at = self._loop.time()
            await watch_process(worker)
            how = await worker.end()
            self._on_worker_ended(key)
            if self._ending:
                return
            log.error("worker process ended; another is started", worker=index, pid=worker.pid, how=how)
            lasted = self._loop.time() - started_at > _STABLE_AFTER_S
            pause_s = _RESTART_RANGE_S[0] if lasted else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, max_pause_s)
            self.restart_count += 1
            key = (index, self.restart_count)
            try:
                worker = await self._start(index)
            except Exception as error:  # noqa: BLE001 - whatever it is, there must be another try
                log.error("worker process cannot be started", worker=index, error=str(error))  # noqa: TRY400 - no trace
                worker = self._workers[index]
                await worker.end()

    async def _change(self, words: Json) -> None:
        name, *arguments = words
        if name not in CHANGES:
            raise ValueError(f"no change is called {name!r}")
        await getattr(self._models, name)(*arguments)
        # The client that made the change reads the models next.
        await self.sync()

    async def _broadcast_canaries(self) -> None:
        """Broadcasts canary figures, at most once a second because they change with every request."""
        while True:
            await asyncio.sleep(_CANARY_BROADCAST_INTERVAL_S)
            if any(model.canary is not None for model in self._models.models()):
                self.state_changed()


class BroadcastingModels:
    """Broadcasts every change of the wrapped models; implements `domain.models.Models`. Event loop only.

    Args of the constructor:
        models: The models.
        sync: Awaited after every change; returns when all worker processes are synced.
    """

    def __init__(self, models: Models, sync: Callable[[], Awaitable[None]]) -> None:
        self._models = models
        self._sync = sync

    @property
    def default_ready(self) -> bool:
        """Forwards to the models; see `domain.models.Models`, also for the following methods."""
        return self._models.default_ready

    @property
    def acquire(self) -> Acquire:  # noqa: D102 - see `default_ready`
        return self._models.acquire

    def models(self) -> tuple[ModelStatus, ...]:  # noqa: D102 - see `default_ready`
        return self._models.models()

    def model(self, name: str) -> ModelStatus:  # noqa: D102 - see `default_ready`
        return self._models.model(name)

    async def refresh(self) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.refresh())

    async def load(self, name: str, version: int) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.load(name, version))

    async def unload(self, name: str, version: int) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.unload(name, version))

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.set_alias(name, alias, version))

    async def promote(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.promote(name, version))

    async def roll_back(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.roll_back(name, version))

    async def _change(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        finally:
            await self._sync()  # a failed load has changed the state to broadcast, too
