"""Defines the base class of setting groups, and types that read several values from one text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import re


class Group(BaseModel):
    """Holds the settings of one TOML table. Immutable.

    A field is a setting: its name is unique among all groups and is also that of the flag and the environment
    variable, and its description is what `--help` and `--print-config` show.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, protected_namespaces=())


def split_lines(value: object, separator: re.Pattern[str]) -> object:
    """Splits a text at a separator and strips the parts; drops empty parts, and returns other values unchanged."""
    lines = separator.split(value) if isinstance(value, str) else value
    if not isinstance(lines, list | tuple):
        return lines
    return [line.strip() if isinstance(line, str) else line for line in lines if str(line).strip()]
