"""Defines the errors in the bytes of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError
from ferserve_server.grpc.trailers import status_trailers

if TYPE_CHECKING:
    from collections.abc import Iterable


class MessageError(Exception):
    """Reports bytes of a stream that are no messages or cannot be processed.

    Args of the constructor:
        code: gRPC status code.
        text: For people.
        more: Further trailers.

    Attributes:
        trailers: End the call.
    """

    def __init__(self, code: int, text: str, more: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.trailers = status_trailers(code, text, more)


ReceiveError = MessageError | FerserveError
"""Reason for which the bytes of a stream are not processed."""
