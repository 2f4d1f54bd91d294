"""Defines the names of models, versions and aliases."""

from __future__ import annotations

import re
from typing import Final

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Names of models. No leading dot: training writes versions in hidden folders before it publishes them."""

VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
"""Versions: numbers from 1 that fit 64 bits."""

STABLE: Final = "stable"
"""Alias of the version that answers requests with neither version nor alias."""

CANARY: Final = "canary"
"""Alias of a version that is tried on a share of the requests, where the settings ask for it."""

_ALIAS: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._-]{1,64}")
"""Aliases contain a letter: where a request has one field for version and alias, a number is a version."""


def is_alias(text: str) -> bool:
    """Checks that a text is an alias: 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`, with a letter among them."""
    return _ALIAS.fullmatch(text) is not None
