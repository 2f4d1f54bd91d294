"""Errors as JSON values, so that a caller gets the same status from whichever process refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ferserve_server.domain import control_errors, errors, upstream_errors
from ferserve_server.domain.errors import FerserveError

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Final[dict[str, type[FerserveError]]] = {
    name: kind
    for module in (errors, control_errors, upstream_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, FerserveError)
}
"""Every error of the domain, by the name of its class."""


def write_error(error: FerserveError) -> dict[str, object]:
    """An error as a JSON object. One of a class that is not the domain's becomes a plain `FerserveError`."""
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
    """The error that `write_error` wrote: of the same class, with the same facts.

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
