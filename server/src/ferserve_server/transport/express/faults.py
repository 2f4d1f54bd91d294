"""Why what a stream brings is not taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError
from ferserve_server.transport.express.trailers import status_block

if TYPE_CHECKING:
    from collections.abc import Iterable


class MessageFault(Exception):  # noqa: N818 - a fault of the peer's
    """The bytes of a stream are no messages that can be taken.

    Attributes:
        trailers: What the call ends with.
    """

    def __init__(self, code: int, text: str, more: Iterable[tuple[str, str]] = ()) -> None:
        """Notes what to say.

        Args:
            code: Code of gRPC.
            text: For people.
            more: Further trailers.
        """
        super().__init__(text)
        self.trailers = status_block(code, text, more)


Fault = MessageFault | FerserveError
"""Why the bytes of a stream are not taken."""
