"""Encodes domain values and errors as JSON. Pure.

Errors keep their class and facts, so that a client gets the same status from whichever process rejected the
request. Dataclasses are encoded by their own type hints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ferserve_server.domain import control_errors, errors, upstream_errors
from ferserve_server.domain.errors import FerserveError

KINDS: Final[dict[str, type[FerserveError]]] = {
    name: kind
    for module in (errors, control_errors, upstream_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, FerserveError)
}
"""All errors of the domain, by class name."""


def write_error(error: FerserveError) -> dict[str, object]:
    """Encodes an error as a JSON object; a class outside the domain becomes a plain `FerserveError`."""
    form: dict[str, object] = {
        "kind": type(error).__name__ if type(error).__name__ in KINDS else FerserveError.__name__,
        "message": error.message,
        "metadata": error.metadata,
    }
    if error.reason != KINDS[str(form["kind"])].reason:
        form["reason"] = error.reason
    if error.field:
        form["field"] = error.field
    if error.retry_after_s is not None:
        form["retry_after_s"] = error.retry_after_s
    if error.retry_safe is not None:
        form["retry_safe"] = error.retry_safe
    return form


def read_error(form: Mapping[str, Any]) -> FerserveError:
    """Decodes the error that `write_error` wrote: of the same class, with the same facts.

    Raises:
        KeyError: It is of no known class, or lacks its message.
    """
    kind = KINDS[form["kind"]]
    # Each class has its own arguments, from which it makes the message; here the message is made already.
    error = kind.__new__(kind)
    FerserveError.__init__(
        error,
        form["message"],
        form["metadata"],
        field=form.get("field", ""),
        retry_after_s=form.get("retry_after_s"),
    )
    error.retry_safe = form.get("retry_safe")
    if "reason" in form:
        error.reason = form["reason"]  # type: ignore[misc]  # a class constant elsewhere
    return error


T = TypeVar("T")

Json: TypeAlias = Any
"""Type of the values that `json.loads` returns."""


def write_value(value: object) -> object:
    """Converts a domain value to JSON-compatible values.

    Mappings become pairs, because JSON keys are only strings.
    """
    if isinstance(value, FerserveError):
        return write_error(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return [[write_value(key), write_value(each)] for key, each in value.items()]
    if isinstance(value, tuple | list):
        return [write_value(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: write_value(getattr(value, field.name)) for field in fields(value)}
    return value


def read_value(form: Json, kind: type[T]) -> T:
    """Decodes the value that `write_value` wrote.

    Args:
        form: The value that it wrote.
        kind: Its type: built of dataclasses, enums, tuples, mappings, `FerserveError`, and what JSON knows.

    Raises:
        KeyError, TypeError, ValueError: `form` is of another type.
    """
    return cast("T", _read(form, kind))


def write_text(value: object) -> str:
    """Encodes a value as JSON text, as `write_value` converts it; numbers may be NumPy's."""
    return json.dumps(value, default=lambda number: number.item(), separators=(",", ":"))


def _read(form: Json, kind: Any) -> object:  # noqa: ANN401, PLR0911 - a hint of any kind; a case for each
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        (wanted,) = (each for each in arguments if each is not NoneType)
        return None if form is None else _read(form, wanted)
    if origin is tuple:
        kinds = (arguments[0],) * len(form) if arguments[-1] is Ellipsis else arguments
        return tuple(_read(each, wanted) for each, wanted in zip(form, kinds, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        return {_read(key, arguments[0]): _read(each, arguments[1]) for key, each in form}
    if issubclass(kind, FerserveError):
        return read_error(form)
    if issubclass(kind, Enum):
        return kind(form)
    if issubclass(kind, tuple):  # one whose parts have names
        hints = get_type_hints(kind).values()
        return kind(*(_read(each, wanted) for each, wanted in zip(form, hints, strict=True)))
    if isinstance(kind, type) and is_dataclass(kind):
        made: Callable[..., object] = kind
        return made(**{name: _read(form[name], hint) for name, hint in _hints(kind).items()})
    return form


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}
