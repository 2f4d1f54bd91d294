"""Reads JSON objects into protobuf messages. Pure.

`google.protobuf.json_format` reads JSON as well. Differences: enumerations have the short names of the HTTP
interface ("yunet" for DETECTOR_YUNET), numbers are never read from texts, and every error names the field and what
is allowed.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor

from ferserve_server.domain.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.message import Message

_INTEGER_BITS: Final = {
    FieldDescriptor.CPPTYPE_INT32: 31,
    FieldDescriptor.CPPTYPE_INT64: 63,
}
_FLOATS: Final = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_MAX_FLOAT: Final = 3.4e38


def load_object(text: str | bytes, field: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InvalidRequestError: JSON_INVALID.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(
            "JSON_INVALID", f"{field}: this is not JSON ({str(error)[:80]}).", field=field
        ) from None
    if not isinstance(document, dict):
        raise InvalidRequestError("JSON_INVALID", f"{field}: send a JSON object.", field=field)
    return document


def fill_message(message: Message, document: dict[str, Any], path: str) -> None:
    """Sets the fields of a message that a JSON object names.

    Args:
        message: The message.
        document: Names and values; a value of null is as none.
        path: Path of the message in errors.

    Raises:
        InvalidRequestError: OPTION_UNKNOWN or OPTION_OUT_OF_RANGE; its field is the path.
    """
    fields: Mapping[str, FieldDescriptor] = dict(message.DESCRIPTOR.fields_by_name)  # type: ignore[arg-type]  # of either implementation
    for name, value in document.items():
        if name not in fields:
            raise InvalidRequestError(
                "OPTION_UNKNOWN",
                f"{path}: there is no option {name[:40]!r}; use {', '.join(fields)}.",
                field=f"{path}.{name[:40]}",
            )
        if value is not None:
            _set_field(message, fields[name], value, f"{path}.{name}")


def enum_names(enum: EnumDescriptor) -> dict[str, int]:
    """Lists the short names of an enumeration: those of its values in lower case, without the common prefix."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def _set_field(message: Message, field: FieldDescriptor, value: object, path: str) -> None:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if not isinstance(value, dict):
            raise _not_allowed(path, value, "an object")
        inner: Message = getattr(message, field.name)
        inner.SetInParent()
        fill_message(inner, value, path)
    else:
        setattr(message, field.name, _scalar(field, value, path))


def _scalar(field: FieldDescriptor, value: object, path: str) -> bool | int | float:
    kind = field.cpp_type
    if field.enum_type is not None:
        names = enum_names(field.enum_type)
        if not isinstance(value, str) or value not in names:
            raise _not_allowed(path, value, " or ".join(names))
        return names[value]
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise _not_allowed(path, value, "true or false")
        return value
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if kind in _INTEGER_BITS:
        if not isinstance(number, int) or not 0 <= number < 2 ** _INTEGER_BITS[kind]:
            raise _not_allowed(path, value, "a whole number from 0")
        return number
    if kind not in _FLOATS or not abs(number) <= _MAX_FLOAT:  # NaN compares as false
        raise _not_allowed(path, value, "a number")
    return float(number)


def _not_allowed(path: str, value: object, allowed: str) -> InvalidRequestError:
    return InvalidRequestError(
        "OPTION_OUT_OF_RANGE", f"{path}: {str(value)[:40]!r} is not allowed; use {allowed}.", field=path
    )
