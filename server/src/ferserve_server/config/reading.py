"""Reads the settings from flags, environment and file, and prints them as TOML."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from ferserve_server.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails


class SettingsError(Exception):
    """Reports unusable settings; the text says which and why, one per line."""


def load_settings(arguments: Sequence[str]) -> Settings:
    """Reads the settings from flags, environment and file.

    Args:
        arguments: The command line without the program's name.

    Raises:
        SettingsError: A setting is unknown or out of range, or the file cannot be read; one line per fault.
        SystemExit: `--help` was asked for, or a flag is unknown; the text is printed.
    """
    path = _config_path(arguments)
    if path is not None and not path.is_file():
        raise SettingsError(f"config: there is no file {path}")

    class Configured(Settings):
        __doc__ = Settings.__doc__
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return Configured(_cli_parse_args=list(arguments))  # type: ignore[call-arg]  # the library's own
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(each) for each in error.errors())) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"config: {path} is not TOML: {error}") from None


def format_settings(settings: Settings) -> str:
    """Formats the settings as TOML, each with its description, as `--config` reads it."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if name in {"config", "print_config"}:
            continue
        lines.append(f"# {field.description}")
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines)


def _config_path(arguments: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=os.environ.get("FERSERVE_CONFIG"))
    named = parser.parse_known_args(arguments)[0].config
    return Path(named) if named else None


def _fault(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"])
    text = error["msg"].removeprefix("Value error, ")
    return f"{name}: {text}, got {error['input']!r}" if name else text


def _toml(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, Enum):
        value = value.value
    # JSON and TOML write these alike; but TOML has no escapes of half surrogate pairs.
    return json.dumps(value, ensure_ascii=False)
