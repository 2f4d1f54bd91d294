"""A stream of another protocol than gRPC, from intake to its end, without a coroutine that runs with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ferserve_server.transport.intake import CANCELLED, OK, known
from ferserve_server.transport.status import code_of

if TYPE_CHECKING:
    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.transport.intake import Intake


class OpenStream:
    """Event loop only.

    Args of the constructor:
        intake: Has counted that it begins.
        method: Its name in the metrics.
        refusal: See below.

    Attributes:
        refusal: Why it is to end at once, or None.
    """

    def __init__(self, intake: Intake, method: str, refusal: FerserveError | None) -> None:
        self._intake = intake
        self._method = method
        self.refusal = refusal

    def count(self, error: BaseException | None) -> FerserveError | None:
        """Counts how it ends, before the caller is told: with an error, CancelledError if it is gone, or well.

        Returns:
            The error that the caller is told, or None.
        """
        code, told = OK, None
        if isinstance(error, asyncio.CancelledError):
            code = CANCELLED
        elif isinstance(error, Exception):
            told = known(self._method, error)
            code = code_of(told).name
        self._intake.ended(self._method, code, None)
        return told

    def close(self) -> None:
        """Lets go of it, when the caller is told."""
        self._intake.closed()
