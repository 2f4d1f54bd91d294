"""Defines the bounds of one connection and of all connections of a process, each with its reason.

The abuse budget is for frames that cost a peer next to nothing and the server a little.
"""

from __future__ import annotations

from typing import Final

MAX_STREAMS: Final = 256
"""Maximum concurrent streams of a connection. Clients queue further calls or open another connection."""

STREAM_WINDOW_BYTES: Final = 256 * 1024
"""Receive window of a stream: 113 faces of 48 x 48."""

CONNECTION_WINDOW_BYTES: Final = 2**30
"""Receive window of a connection. Never the limiting bound: stream windows and `RECEIVE_BUFFER_BYTES` are."""

DATA_FRAME_BYTES: Final = 128 * 1024
"""Maximum frame size: 56 faces of 48 x 48. A message in one frame costs half of what it costs in five of 16 KiB.
Half of a stream's window, so that a window update is on its way while the second half arrives."""

HEADER_LIST_BYTES: Final = 256 * 1024
"""Maximum decoded header list (RFC 9113, 6.5.2). Longer ones end the connection, because only references to long
entries of the HPACK table reach it; what is below and above the limit of metadata fails its stream alone."""

HEADER_COUNT: Final = 4096
"""Maximum fields of a header block: creating 4,096 takes about 1 ms."""

SETTINGS_PER_FRAME: Final = 32
"""Maximum entries of a SETTINGS frame; six are defined, and 2,700 fit into one of 16 KiB."""

OUTBOUND_ACKS: Final = 1000
"""Maximum queued acknowledgements of PING and SETTINGS (CVE-2019-9512, CVE-2019-9515)."""

CONTINUATIONS: Final = 8
"""Maximum CONTINUATION frames of a header block (CVE-2024-27316)."""

RESET_RATE: Final = (10_000, 6_000)
"""Burst and rate per second of RST_STREAM. Wide, because deadlines that pass reset calls: 256 streams of 50 ms are
5,120 a second. Resets of younger streams are charged to the abuse budget."""

GLITCH_RATE: Final = (20_000, 2_000)
"""Burst and rate per second of what nghttp2 finds suspicious, such as frames on closed streams. Wide, because
calls that are answered early leave up to a window of frames on their way."""

ABUSE_CAPACITY: Final = 1000.0
"""Maximum useless frames that a peer may send at once: a client may reset all its calls, several times over."""

ABUSE_REFILL_PER_S: Final = 200.0
"""Useless frames that a peer may send per second. Clients ping and probe the bandwidth some ten times."""

ABUSE_REFILL_PER_ANSWER: Final = 4.0
"""Useless frames that belong to an answer: a window update or two and a ping."""

FREE_ANSWER_CAPACITY: Final = 500.0
"""Answers at once to requests that cost their peer next to nothing, such as an unknown method."""

FREE_ANSWERS_PER_S: Final = 500.0
"""Such answers per second; beyond, the connection is read more slowly. A prober asks once a second or so."""

EARLY_RESET_S: Final = 0.05
"""Age of a stream up to which its reset is charged. Later ones are deadlines or impatience, not a flood."""

SLICE_BYTES: Final = 16 * 1024
"""Bytes parsed between checks of the clock: 1,000 requests of 16 bytes take about 1.5 ms."""

LARGE_FRAME_BYTES: Final = 512
"""Mean size above which frames count as large: a call of one face has 1,150 bytes a frame, a flood 10 to 30."""

MAX_SLICE_BYTES: Final = 128 * 1024
"""The same while frames are large."""

EVENTS_PER_CHECK: Final = 32
"""Events handled between checks of the clock: requests that are answered at once take about 10 us each."""

ITERATION_S: Final = 0.003
"""Maximum time of one connection per event-loop iteration. 128 single-face calls fit."""

QUEUED_ANSWER_BYTES: Final = 64 * 1024
"""Maximum unsent bytes of a stream, above which its handler has to wait."""

QUEUED_BYTES: Final = 256 * 1024
"""Maximum unsent bytes of a connection, above which all its handlers have to wait."""

RECEIVE_BUFFER_BYTES: Final = 24 * 2**20
"""Bytes of incomplete messages, all connections together and within their windows. Beyond, the connection that
holds most loses the stream that holds most."""

OVERSIZE_WINDOW_BYTES: Final = 32 * 2**20
"""Window of all messages together that exceed a stream's window, granted in order. If one message may be
longer, that.
"""

OVERSIZE_S: Final = 20.0
"""Time in which a message with an oversize window must be complete while others wait for theirs."""

HANDSHAKE_S: Final = 10.0
"""Time in which a connection must have begun, and its bytes must have become whole frames before it is pinged."""

MESSAGE_S: Final = 60.0
"""Time in which a started message, and the only message of a unary call, must be complete."""

UNSENT_S: Final = 60.0
"""Time in which a peer must take an answer: by its windows per stream, by reading its socket per connection."""

IDLE_S: Final = 60.0
"""Time without a frame after which a peer is pinged, as gRPC's server does."""

PING_S: Final = 20.0
"""Time in which it must send any whole frame, such as the acknowledgement."""

GOAWAY_S: Final = 10.0
"""Time between the announcement of a shutdown and the last GOAWAY if the peer acknowledges nothing."""

LINGER_S: Final = 2.0
"""Time for which the input of a closed connection is discarded, because a reset would destroy its GOAWAY."""

LINGER_BYTES: Final = 1024 * 1024
"""Maximum input that is discarded in this way."""

SHUTDOWN_S: Final = 1.0
"""Time in which peers may close their connections when the server stops, as with gRPC's server."""


class AbuseBudget:
    """Accounts for one connection: useless frames end it, free answers slow it down.

    Resets, pings, settings and empty frames have taken servers down (CVE-2019-9511 to 9518, CVE-2023-44487,
    CVE-2024-27316). A peer whose calls are answered never exhausts the budget.

    Args of the constructor:
        now: The time, in seconds.

    Attributes:
        answered: Messages sent since the last charge, which refill it.
    """

    __slots__ = ("_answers_at", "_answers_left", "_at", "_left", "answered")

    def __init__(self, now: float) -> None:
        self.answered = 0
        self._left = ABUSE_CAPACITY
        self._answers_left = FREE_ANSWER_CAPACITY
        self._at = self._answers_at = now

    def spend(self, now: float) -> bool:
        """Charges a useless frame; returns whether the budget suffices."""
        refill = (now - self._at) * ABUSE_REFILL_PER_S + self.answered * ABUSE_REFILL_PER_ANSWER
        self._left = min(ABUSE_CAPACITY, self._left + refill) - 1
        self._at, self.answered = now, 0
        return self._left >= 0

    def charge_answer(self, now: float) -> float:
        """Charges an answer that cost the peer nothing; returns the seconds to pause reading."""
        left = self._answers_left + (now - self._answers_at) * FREE_ANSWERS_PER_S
        self._answers_left = min(FREE_ANSWER_CAPACITY, left) - 1
        self._answers_at = now
        return max(0.0, -self._answers_left / FREE_ANSWERS_PER_S)
