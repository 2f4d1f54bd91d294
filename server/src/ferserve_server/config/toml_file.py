"""Reads settings from a TOML file with a table per group."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from ferserve_server.config.settings import SETTINGS, Settings
from ferserve_server.config.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from pathlib import Path


class ConfigFileError(Exception):
    """Reports an unusable file; the text has a line per fault."""


def read_file(path: Path) -> dict[str, Any]:
    """Reads a file and returns the values by name of the setting, not yet validated.

    Raises:
        ConfigFileError: The file cannot be read, or a name in it is no setting or in another group.
    """
    if not path.is_file():
        raise ConfigFileError(f"config: there is no file {path}")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"config: {path} is not TOML: {error}") from None
    except OSError as error:
        raise ConfigFileError(f"config: {path} cannot be read: {error.strerror}") from None
    values: dict[str, Any] = {}
    faults = []
    for key, content in document.items():
        if key in Settings.model_fields and isinstance(content, dict):
            for name, value in content.items():
                if name in SETTINGS and SETTINGS[name][0] == key:
                    values[name] = value
                else:
                    faults.append(_unknown_setting(name))
        elif isinstance(content, dict):
            groups = [f"[{group}]" for group in nearest(key, Settings.model_fields)]
            faults.append(f"[{key}]: there is no such group of settings{did_you_mean(groups) or _all_groups()}")
        else:
            faults.append(_unknown_setting(key))
    if faults:
        raise ConfigFileError("\n".join(faults))
    return values


def _unknown_setting(name: str) -> str:
    if name in SETTINGS:
        group = SETTINGS[name][0]
        return f"{name}: this setting belongs to the group {group}: write it below a line [{group}]"
    candidates = [f"{each} in [{SETTINGS[each][0]}]" for each in nearest(name, SETTINGS)]
    return f"{name}: there is no such setting{did_you_mean(candidates) or '; --print-config lists all'}"


def _all_groups() -> str:
    return f"; there are {', '.join(Settings.model_fields)}"
