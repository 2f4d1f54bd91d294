"""Defines rules of a protocol as what is sent, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support.http2_frames import ErrorCode
from support.raw_peer import DUPLEX_CALL, SILENCE_S, RawPeer, request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_FOLLOWING_STREAM = 4001
"""Of the call that tests whether the connection goes on."""


@dataclass(frozen=True)
class Rule:
    """A rule: what a client sends, and what the server must do.

    Attributes:
        section: Of the document.
        text: What the rule says, in short.
        send: Makes the bytes; may read first.
        check: Looks at what came.
    """

    section: str
    text: str
    send: Callable[[RawPeer], bytes]
    check: Callable[[RawPeer], None]

    @property
    def name(self) -> str:
        return f"{self.section} {self.text}"


def parameters(rules: Sequence[Rule], deviations: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Any]:
    """One parameter for each rule and server; the known deviations of a server are expected to fail.

    Args:
        rules: Rules with different names.
        deviations: Names of rules, by server and reason.
    """
    names = {rule.name for rule in rules}
    assert len(names) == len(rules)
    made = []
    for server, reasons in deviations.items():
        known = {name: reason for reason, each in reasons.items() for name in each}
        assert not known.keys() - names, known.keys() - names
        for rule in rules:
            marks = [pytest.mark.xfail(reason=known[rule.name], strict=True)] if rule.name in known else []
            made.append(pytest.param(server, rule, id=f"{server}-{rule.name}", marks=marks))
    return made


def play(address: str, rule: Rule) -> None:
    """Sends what a rule says, and checks what comes of it."""
    with RawPeer(address) as peer:
        peer.begin()
        peer.send(rule.send(peer))
        rule.check(peer)


def raw(*frames: bytes) -> Callable[[RawPeer], bytes]:
    """Sends frames that need no headers."""
    return lambda _: b"".join(frames)


def opened(*frames: bytes) -> Callable[[RawPeer], bytes]:
    """Opens stream 1, which stays open, and sends frames."""
    return lambda peer: peer.headers(request(DUPLEX_CALL)) + b"".join(frames)


def connection_error(*codes: ErrorCode) -> Callable[[RawPeer], None]:
    """The connection ends, by a GOAWAY with one of these codes or by its close (5.4.1 allows that)."""

    def check(peer: RawPeer) -> None:
        assert not peer.alive(), "the connection goes on"
        assert peer.go_away is None or peer.go_away in codes, peer.go_away

    return check


def stream_error(*codes: ErrorCode, stream_id: int = 1, or_answered: bool = False) -> Callable[[RawPeer], None]:
    """The stream is reset, or, as 5.4.2 allows, the connection ends; with one of these codes.

    Args:
        codes: Allowed ones.
        stream_id: The stream.
        or_answered: Whether an answer of HTTP status 400 or more, or a status of gRPC that is not OK, will do.
    """

    def check(peer: RawPeer) -> None:
        if not peer.alive():
            assert peer.go_away is None or peer.go_away in codes, peer.go_away
            return

        def decided() -> bool:
            answer = peer.answers.get(stream_id)
            return answer is not None and answer.over

        assert peer.read_until(lambda: decided() or peer.failed, SILENCE_S), "nothing came of it"
        answer = peer.answers[stream_id]
        rejected_before = answer.ended and (
            int(answer.headers[":status"]) >= 400 or answer.status not in {None, "0"}
        )
        assert (rejected_before and or_answered) or answer.reset in codes, answer
        assert peer.answers_calls(_FOLLOWING_STREAM), "the connection does not go on"

    return check


def malformed(peer: RawPeer) -> None:
    """A stream error of type PROTOCOL_ERROR, before which an answer may come (8.1.1)."""
    stream_error(ErrorCode.PROTOCOL_ERROR, or_answered=True)(peer)


def ignored(peer: RawPeer) -> None:
    """Nothing comes of it: the connection goes on."""
    assert peer.alive(), f"the connection ended with {peer.go_away}"
    assert all(answer.reset is None for answer in peer.answers.values())
    assert peer.answers_calls(_FOLLOWING_STREAM), "the connection does not go on"


def answered(peer: RawPeer) -> None:
    """The call on stream 1 succeeds."""
    answer = peer.answer()
    assert (answer.headers.get(":status"), answer.status, answer.reset) == ("200", "0", None), (
        answer,
        peer.go_away,
    )


def rejected(*codes: int) -> Callable[[RawPeer], None]:
    """The call on stream 1 ends with one of these gRPC status codes, and the connection goes on."""

    def check(peer: RawPeer) -> None:
        assert peer.alive()
        assert peer.read_until(lambda: 1 in peer.answers and peer.answers[1].over, SILENCE_S), "no answer came"
        answer = peer.answers[1]
        assert answer.status in {str(code) for code in codes}, (answer, peer.go_away)
        assert peer.answers_calls(_FOLLOWING_STREAM), "the connection does not go on"

    return check
