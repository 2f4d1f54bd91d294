"""What server and engine process say to each other but for batches: JSON, a request and its answer at a time."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import EnsembleMember, InputSpec, ModelDescription, Precision, ServableId

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_TRACE: Final = 8000
"""Characters, so that a message has room for it whatever they are."""

Fields = dict[str, Any]
"""JSON object: its values are what JSON has."""


class EngineRaisedError(Exception):
    """What the engine raised in its own process, as text; a note has the trace."""


def request(do: str, fields: Mapping[str, object]) -> bytes:
    """Asks for one of the things that `worker.Worker` does."""
    return json.dumps({"do": do, **fields}).encode()


def answer(fields: Fields | None = None) -> bytes:
    """Says that it was done, and what came of it."""
    return json.dumps({"done": fields or {}}).encode()


def refusal(error: BaseException) -> bytes:
    """Says why it was not done."""
    if isinstance(error, ModelRejectedError):
        fields = {"reason": error.reason, "message": error.message, "facts": error.metadata}
        return json.dumps({"rejected": fields}).encode()
    trace = "".join(traceback.format_exception(error))
    return json.dumps({"raised": repr(error)[:1000], "trace": trace[-_LONGEST_TRACE:]}).encode()


def read(message: bytes) -> Fields:
    """Reads a request, or the answer to one.

    Raises:
        ModelRejectedError: The version may not be served.
        EngineRaisedError: The engine raised something else.
    """
    fields: Fields = json.loads(message)
    if "rejected" in fields:
        said = fields["rejected"]
        raise ModelRejectedError(said["reason"], said["message"], **said["facts"])
    if "raised" in fields:
        error = EngineRaisedError(fields["raised"])
        error.add_note(f"In the engine's process:\n{fields['trace']}")
        raise error
    done: Fields = fields.get("done", fields)
    return done


def describe(description: ModelDescription) -> Fields:
    """Writes a description down."""
    return asdict(description) | {"precision": description.precision.value}


def read_description(fields: Fields) -> ModelDescription:
    """Reads what `describe` wrote."""
    members = (EnsembleMember(ServableId(*member["id"]), member["manifest_sum"]) for member in fields["members"])
    return ModelDescription(
        **fields
        | {
            "labels": tuple(fields["labels"]),
            "input": InputSpec(**fields["input"]),
            "members": tuple(members),
            "precision": Precision(fields["precision"]),
        }
    )
