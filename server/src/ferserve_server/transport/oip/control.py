"""The repository calls of the Open Inference Protocol that change what is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.transport.compat.messages import Message
    from ferserve_server.transport.control import Metadata, ModelControl


class RepositoryControl:
    """Loads and unloads as Triton's clients ask for it. Event loop only.

    Triton loads and unloads models; here it is versions, which clients name in the parameter `version`.
    """

    def __init__(self, control: ModelControl) -> None:
        self._control = control

    async def load(self, metadata: Metadata, model: str, version: int | None) -> None:
        """Loads a version; without one, what the model's policy wants of what is in the folder by now.

        Raises:
            FerserveError: See `transport.control.ModelControl`.
        """
        if version is None:
            await self._control.look(metadata, model)
        else:
            await self._control.load(metadata, model, version)

    async def unload(self, metadata: Metadata, model: str, version: int | None) -> None:
        """Lets a version go.

        Raises:
            InvalidRequestError: OPTION_OUT_OF_RANGE: no version is named.
            FerserveError: See `transport.control.ModelControl`.
        """
        # Without a version it is told who may call before what is missing.
        await self._control.unload(metadata, model, version or 0)


def parse_version(parameters: Mapping[str, Message]) -> int | None:
    """Reads the parameter `version`, an int64_param or a text; None if it is not there.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE: it is no whole number from 1.
    """
    if "version" not in parameters:  # looking an absent key up would put it in
        return None
    parameter = parameters["version"]
    choice = parameter.WhichOneof("parameter_choice")
    return read_version(getattr(parameter, choice) if choice in {"int64_param", "string_param"} else None)


def read_version(value: object) -> int:
    """Reads a version out of a number or a text.

    Raises:
        InvalidRequestError: As above.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            "parameters.version: name the version of the model, a whole number from 1.",
            field="parameters.version",
        )
    return int(text)
