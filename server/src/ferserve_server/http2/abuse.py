"""Defines the abuse budget, for frames that cost a peer next to nothing and the server a little. Pure."""

from __future__ import annotations

from ferserve_server.http2.limits import (
    ABUSE_CAPACITY,
    ABUSE_REFILL_PER_ANSWER,
    ABUSE_REFILL_PER_S,
    FREE_ANSWER_CAPACITY,
    FREE_ANSWERS_PER_S,
)


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
