"""How much work without use a peer may make: resets, pings, settings, empty frames. Pure.

Each of these costs a peer next to nothing and a server a little, and floods of each have taken servers down
(CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316). One account for all of them holds: a peer whose calls are
answered never runs out, one that only makes work does.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 1000.0
"""What a peer has at first, and at most: a client may reset all its calls at once, some times over."""

_PER_S: Final = 200.0
"""What comes back by itself. Clients ping and probe the bandwidth some ten times a second."""

_PER_ANSWER: Final = 4.0
"""What an answer brings: a window update or two and a ping may belong to it."""


class Credit:
    """The account of one connection.

    Args of the constructor:
        now: The time, in seconds.
    """

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = CAPACITY
        self._at = now

    def answered(self) -> None:
        """Notes an answer."""
        self._left = min(CAPACITY, self._left + _PER_ANSWER)

    def pay_back(self) -> None:
        """Notes that the last piece of work was of use after all."""
        self._left = min(CAPACITY, self._left + 1)

    def spend(self, now: float) -> bool:
        """Notes one piece of work without use; False if it was one too many."""
        self._left = min(CAPACITY, self._left + (now - self._at) * _PER_S) - 1
        self._at = now
        return self._left >= 0
