"""Reads the parameters of a ModelInferRequest. Unknown parameters are ignored. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.ports import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.interop.messages import Message


def parse_count(parameters: Mapping[str, Message], name: str) -> int:
    """Reads a whole number; clients send it as int64 or, newer ones, as uint64. 0 if it is not there.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE: of another type, or below 0.
    """
    if name not in parameters:  # looking an absent key up would put it in
        return 0
    parameter = parameters[name]
    choice = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, choice) if choice in {"int64_param", "uint64_param"} else -1
    if value < 0:
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"parameters.{name}: use a whole number from 0, as int64_param or uint64_param.",
            field=f"parameters.{name}",
        )
    return int(value)


def parse_flag(parameters: Mapping[str, Message], name: str) -> bool:
    """Reads a truth value; False if it is missing.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE: of another type.
    """
    if name not in parameters:
        return False
    parameter = parameters[name]
    if parameter.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"parameters.{name}: use true or false, as bool_param.",
            field=f"parameters.{name}",
        )
    return bool(parameter.bool_param)


def parse_priority(parameters: Mapping[str, Message]) -> Priority:
    """Reads `priority`: 0 (not given) and 1 are interactive, higher numbers, which are less urgent, are bulk."""
    return Priority.BULK if parse_count(parameters, "priority") > 1 else Priority.INTERACTIVE


def parse_deadline(parameters: Mapping[str, Message], now: float, deadline: float | None) -> float | None:
    """Reads `timeout`, in microseconds; the earlier of it and the call's own deadline counts.

    Args:
        parameters: Those of the request.
        now: The time on the server's clock, in seconds.
        deadline: That of the call, on the same clock, or None.
    """
    timeout_us = parse_count(parameters, "timeout")
    if timeout_us == 0:
        return deadline
    until = now + timeout_us / 1e6
    return until if deadline is None else min(until, deadline)
