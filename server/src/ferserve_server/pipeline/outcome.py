"""What becomes of one message of a stream: an answer or an error of its own, so that the stream goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog

from ferserve_server.domain.errors import FerserveError

if TYPE_CHECKING:
    from collections.abc import Awaitable

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


async def outcome_of(work: Awaitable[Answer]) -> Answer | FerserveError:
    """Waits for the work on one message; returns what it returns, or the error that it raises.

    An error that is none of ours is logged, and hidden behind one whose text callers may see.
    """
    try:
        return await work
    except FerserveError as error:
        return error
    except Exception:
        log.exception("stream message failed")
        return FerserveError("The server failed on this message. Its log tells more.")
