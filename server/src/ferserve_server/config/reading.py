"""Reads the settings from flags, environment and file, and prints them as TOML."""

from __future__ import annotations

import argparse
import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from pydantic import Field, ValidationError, create_model
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from ferserve_server.config.settings import SETTINGS, Settings
from ferserve_server.config.spelling import unknown_flags, unknown_variables
from ferserve_server.config.toml_file import ConfigFileError, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

_OF_THE_COMMAND: Final = ("config", "print_config")
"""Flags that are no settings."""


class SettingsError(Exception):
    """Reports unusable settings; the text says which and why, one per line."""


class Command(NamedTuple):
    """Holds a parsed command line.

    Attributes:
        settings: The settings.
        print_config: Whether to print them and exit.
    """

    settings: Settings
    print_config: bool


def load_settings(arguments: Sequence[str]) -> Settings:
    """Reads the settings; see `read_command`."""
    return read_command(arguments).settings


def read_command(arguments: Sequence[str]) -> Command:
    """Reads the settings from flags, environment and file.

    Args:
        arguments: The command line without the program's name.

    Raises:
        SettingsError: A setting is unknown or out of range, or the file cannot be read; one line per fault.
        SystemExit: `--help` was asked for, or an argument is no flag; the text is printed.
    """
    names = [*_OF_THE_COMMAND, *SETTINGS]
    faults = unknown_flags(arguments, names, switches=_switches()) + unknown_variables(os.environ, names)
    path = _config_path(arguments)
    try:
        from_file = {} if path is None else read_file(path)
    except ConfigFileError as error:
        raise SettingsError("\n".join([*faults, str(error)])) from None
    if faults:
        raise SettingsError("\n".join(faults))
    try:
        values = _flat_model(from_file)(_cli_parse_args=list(arguments)).model_dump()  # type: ignore[call-arg]  # the library's own
    except ValidationError as error:
        raise SettingsError("\n".join(map(_fault_of_one, error.errors()))) from None
    print_config = values.pop("print_config")
    values.pop("config")
    try:
        return Command(Settings.of(**values), print_config)
    except ValidationError as error:  # values that do not fit together, which its text names
        raise SettingsError("\n".join(map(_message, error.errors()))) from None


def format_settings(settings: Settings) -> str:
    """Formats the settings as TOML with a table per group, each with its description, as `--config` reads it."""
    lines = []
    shown = None
    for name, (group, field) in SETTINGS.items():
        if group != shown:
            lines += ["", f"[{group}]"] if shown else [f"[{group}]"]
            shown = group
        value = getattr(getattr(settings, group), name)
        lines.append(f"# {field.description}")
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines)


class _FlatSettings(BaseSettings):
    """gRPC server of ferserve: facial expressions from face crops, pictures and video streams.

    Every flag can also be given as an environment variable, FERSERVE_ and its name in capitals
    (FERSERVE_MODEL_REPO), or in a TOML file named by --config or FERSERVE_CONFIG; --print-config shows the file's
    form. Flags take precedence over the environment, the environment over the file; an empty variable counts as
    unset. --version alone prints the version.
    """

    model_config = SettingsConfigDict(
        env_prefix="FERSERVE_",
        cli_prog_name="ferserve-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        env_ignore_empty=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    config: Path | None = Field(None, description="TOML file with settings, in the form that --print-config shows")
    print_config: bool = Field(False, description="print the effective settings as TOML, and exit")


def _flat_model(from_file: Mapping[str, object]) -> type[_FlatSettings]:
    """Builds the class that the library reads flags and variables with: all settings side by side."""

    class Configured(_FlatSettings):
        __doc__ = _FlatSettings.__doc__

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Orders the sources; the library puts the flags before them."""
            del dotenv_settings, file_secret_settings
            return init_settings, env_settings, InitSettingsSource(settings_cls, dict(from_file))

    fields: dict[str, Any] = {
        name: (
            Annotated[field.annotation, *field.metadata, Field(description=field.description)],
            field.default,
        )
        for name, (_, field) in SETTINGS.items()
    }
    return create_model("Configured", __base__=Configured, __doc__=_FlatSettings.__doc__, **fields)


def _switches() -> list[str]:
    return ["print_config", *(name for name, (_, field) in SETTINGS.items() if field.annotation is bool)]


def _config_path(arguments: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=os.environ.get("FERSERVE_CONFIG"))
    named = parser.parse_known_args(arguments)[0].config
    return Path(named) if named else None


def _fault_of_one(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"])
    return f"{name}: {_message(error)}, got {error['input']!r}" if name else _message(error)


def _message(error: ErrorDetails) -> str:
    return error["msg"].removeprefix("Value error, ")


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, Enum):
        value = value.value
    # JSON and TOML write these alike; but TOML has no escapes of half surrogate pairs.
    return json.dumps(value, ensure_ascii=False)
