"""What one connection may cost. Each bound is here with its reason."""

from __future__ import annotations

from typing import Final

MAX_STREAMS: Final = 256
"""Calls that a connection may have open at once. Clients wait with more, or open another connection."""

STREAM_WINDOW_BYTES: Final = 256 * 1024
"""Bytes that a stream may send ahead: 113 faces of 48 x 48. All streams of a connection together hold 64 MiB, and
one message more of the longest that there may be, for which they are given room in turn."""

DATA_FRAME_BYTES: Final = 128 * 1024
"""Longest frame of a message: 56 faces of 48 x 48. A message in one frame costs half of what it costs in five,
which it would come in if nothing were said (RFC 9113, 4.2). Half of a stream's window, so that who sends more than
that is given room while the second half is on its way. No other frame may be as long."""

WAITED_S: Final = 0.05
"""After which whoever resets a call has waited for it, as all do whose deadlines pass in a slow spell. Such a
client keeps its connection: `MAX_STREAMS` calls that wait so long are 5,120 a second at most, no flood."""

CONNECTION_WINDOW_BYTES: Final = 16 * 2**20
"""Bytes that a connection may send ahead. They are never held against it: the streams' windows are the bound."""

MAX_INFLATED_BYTES: Final = 64 * 2**20
"""What compressed messages of a connection may come to while they wait for their turn: as much as others. If one
message may be longer, then that."""

HANDSHAKE_S: Final = 10.0
"""In which a connection must have begun as HTTP/2 does, and a header block that has begun must be complete."""

MESSAGE_S: Final = 60.0
"""In which a message that has begun must be complete, and a call must have sent the one it consists of."""

IDLE_S: Final = 60.0
"""After which a peer that was not heard is asked whether it is there, as the gRPC server does."""

DEAD_S: Final = 20.0
"""In which it must answer."""

UNREAD_S: Final = 60.0
"""In which a peer must read something of what waits for it."""
