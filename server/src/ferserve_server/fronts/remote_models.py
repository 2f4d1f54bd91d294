"""The models of another process, as a front process sees them. Implements `domain.models.Models`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from ferserve_server.domain.errors import QueueFullError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.fronts import score_messages as wire
from ferserve_server.fronts.state_form import read_value
from ferserve_server.repository.directory import Directory, ServiceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ModelStatus, ServableId
    from ferserve_server.fronts.arena import Arena
    from ferserve_server.fronts.state_form import Json

_NEWEST_SHARE: Final = 0.1
"""Weight of the newest answer in the running mean of how long one takes: about the last 20 count."""

_RETRY_RANGE_S: Final = (0.005, 5.0)
"""Shortest and longest wait that a refused caller is told, in seconds, as in `batching.admission`."""

_NUMBERS: Final = 2**32


class _Waiting:
    """A request that is not answered: its place in the memory belongs to the owner."""

    __slots__ = ("future", "offset", "room", "sent_at")

    def __init__(
        self, future: asyncio.Future[tuple[wire.ScoreAnswer, ScoredFaces]], offset: int, room: int, sent_at: float
    ) -> None:
        self.future = future
        self.offset = offset
        self.room = room
        self.sent_at = sent_at


class RemoteModels:
    """Sends faces to the owner of the models, and knows what the owner told of them. Event loop only.

    Args of the constructor:
        memory: uint8 [bytes], shared with the owner.
        arena: Which places of it are taken.
        post: Sends a message of a request.
        ask: Asks the owner; see `Conversation.ask`.
        clock: The time.
        rejected: Is told why a request was not taken here.
    """

    def __init__(
        self,
        memory: npt.NDArray[np.uint8],
        arena: Arena,
        *,
        post: Callable[[bytes], None],
        ask: Callable[[str, object], Awaitable[Json]],
        clock: Clock,
        rejected: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._arena = arena
        self._post = post
        self._ask = ask
        self._clock = clock
        self._rejected = rejected
        self._directory = Directory(ServiceState("", default_ready=False))
        self._waiting: dict[int, _Waiting] = {}
        self._last_request = 0
        self._last_lease = 0
        self._answer_s = 0.0

    @property
    def default_ready(self) -> bool:
        """Whether the default model answers requests that name no version."""
        return self._directory.state.default_ready

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> RemoteLease:
        """Takes a lease, which the owner holds from the first faces on; see `domain.models.Acquire`."""
        servable, description = self._directory.resolve(spec)
        self._last_lease = (self._last_lease + 1) % _NUMBERS
        return RemoteLease(self, spec, servable, description, self._last_lease, kept=not once)

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model with its versions, by name, as the owner told last."""
        return self._directory.state.models

    def model(self, name: str) -> ModelStatus:
        """One model, as the owner told last; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
        """
        return self._directory.model(name)

    async def refresh(self) -> None:
        """See `domain.models.ModelChanges`; so for the following ones."""
        await self._ask("change", ["refresh"])

    async def load(self, name: str, version: int) -> None:  # noqa: D102 - see `refresh`
        await self._ask("change", ["load", name, version])

    async def unload(self, name: str, version: int) -> None:  # noqa: D102 - see `refresh`
        await self._ask("change", ["unload", name, version])

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:  # noqa: D102 - see `refresh`
        await self._ask("change", ["set_alias", name, alias, version])

    async def promote(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `refresh`
        await self._ask("change", ["promote", name, version])

    async def roll_back(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `refresh`
        await self._ask("change", ["roll_back", name, version])

    def state_told(self, form: Json) -> None:
        """Takes in what the owner tells of its models: a `ServiceState` as JSON."""
        self._directory = Directory(read_value(form, ServiceState))

    def score_message(self, message: bytes) -> None:
        """Takes in what the owner says of a request."""
        kind = wire.kind_of(message)
        if kind == wire.ANSWER:
            answer = wire.read_answer(message)
            waiting = self._done(answer.number)
            if not waiting.future.done():
                size = answer.face_count * answer.label_count * 4
                place = self._memory[waiting.offset : waiting.offset + size]
                scores = place.view(np.float32).reshape(answer.face_count, answer.label_count).copy()
                faces = ScoredFaces(scores, answer.failures, answer.queue_s, answer.inference_s)
                waiting.future.set_result((answer, faces))
                self._answer_s += _NEWEST_SHARE * (self._clock.now() - waiting.sent_at - self._answer_s)
        elif kind == wire.REFUSED:
            number, error = wire.read_refusal(message)
            waiting = self._done(number)
            if not waiting.future.done():
                waiting.future.set_exception(error)
        else:
            self._done(wire.read_number(message))

    async def score(
        self, lease: RemoteLease, crops: CropBatch, *, deadline: float | None, priority: Priority
    ) -> ScoredFaces:
        """Has faces scored for a lease; see `domain.ports.ScoresFaces`."""
        label_count = len(lease.description.labels)
        room = max(crops.nbytes, len(crops) * label_count * 4)
        offset = self._arena.take(room)
        if offset is None:
            self._rejected(QueueFullError.reason)
            raise self._full()
        self._memory[offset : offset + crops.nbytes].reshape(crops.shape)[...] = crops
        number = self._last_request = (self._last_request + 1) % _NUMBERS
        future: asyncio.Future[tuple[wire.ScoreAnswer, ScoredFaces]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Waiting(future, offset, room, self._clock.now())
        count, height, width = crops.shape[:3]
        request = wire.ScoreRequest(
            number,
            lease.number,
            lease.kept,
            offset,
            room,
            (count, height, width),
            deadline,
            priority,
            lease.spec,
        )
        self._post(wire.write_score(request))
        try:
            answer, faces = await future
        except asyncio.CancelledError:
            if number in self._waiting:  # else the answer crossed the caller's leaving
                self._post(wire.write_numbered(wire.CANCEL, number))
            raise
        lease.answered_by(answer.servable, self._directory.description(answer.servable))
        return faces

    def end_lease(self, number: int) -> None:
        """Tells the owner that no more faces come for a lease that it keeps."""
        self._post(wire.write_numbered(wire.CLOSE, number))

    def _done(self, number: int) -> _Waiting:
        waiting = self._waiting.pop(number)
        self._arena.give_back(waiting.offset, waiting.room)
        return waiting

    def _full(self) -> QueueFullError:
        low, high = _RETRY_RANGE_S
        return QueueFullError(
            what="MiB of faces",
            queued=self._arena.taken // 2**20,
            limit=self._arena.size // 2**20,
            setting="max_queue_mib",
            retry_after_s=min(high, max(low, self._answer_s / 2)),
        )


class RemoteLease:
    """Implements `domain.models.Lease` and `domain.ports.ScoresFaces`.

    Attributes:
        id: The version: until faces were scored the one that is in force by what the owner told, then the one
            that scored them.
        description: What its manifest says.
        spec: What was asked for.
        number: The owner's number for it.
        kept: Whether the owner keeps it until it is told.
    """

    __slots__ = ("_models", "_used", "description", "id", "kept", "number", "spec")

    def __init__(
        self,
        models: RemoteModels,
        spec: ModelSpec,
        servable: ServableId,
        description: ModelDescription,
        number: int,
        *,
        kept: bool,
    ) -> None:
        self._models = models
        self._used = False
        self.spec = spec
        self.id = servable
        self.description = description
        self.number = number
        self.kept = kept

    @property
    def scorer(self) -> Self:
        """The lease itself."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.kept and self._used:
            self._models.end_lease(self.number)

    async def score(
        self, crops: CropBatch, *, deadline: float | None = None, priority: Priority = Priority.INTERACTIVE
    ) -> ScoredFaces:
        """Scores faces; see `domain.ports.ScoresFaces`."""
        self._used = True
        return await self._models.score(self, crops, deadline=deadline, priority=priority)

    def answered_by(self, servable: ServableId, description: ModelDescription | None) -> None:
        """Notes which version scored."""
        self.id = servable
        self.description = description or self.description
