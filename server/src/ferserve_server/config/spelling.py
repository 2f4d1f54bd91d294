"""Finds misspelt names of settings and suggests the nearest ones."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PREFIX: Final = "FERSERVE_"
"""Prefix of environment variables."""

_OF_OTHERS: Final = re.compile(r"server|.*_?(service_host|service_port(_.*)?|port(_\d+_(tcp|udp|sctp)(_.*)?)?)")
"""Variables with the prefix that are no misspelt settings: the client's FERSERVE_SERVER, and those that Kubernetes
sets in every container for a Service whose name begins with ferserve."""

_NEARLY_THE_SAME: Final = 0.85
"""Minimum similarity, 0 to 1, of a name with one or two wrong letters."""

_SIMILAR: Final = 0.75
"""Minimum similarity, 0 to 1, at which a variable counts as misspelt, because other programs may have variables
with the same prefix. `max_que_faces` has 0.93, `model_repository` 0.77."""


def nearest(name: str, known: Iterable[str], min_similarity: float = 0.6) -> list[str]:
    """Returns the known name that is nearly the same, else the up to two most similar ones, else none."""
    plain, names = name.lower().replace("-", "_"), list(known)
    same = difflib.get_close_matches(plain, names, n=1, cutoff=_NEARLY_THE_SAME)
    return same or difflib.get_close_matches(plain, names, n=2, cutoff=min_similarity)


def did_you_mean(candidates: Sequence[str]) -> str:
    """Formats a suggestion as the end of an error message; empty without candidates."""
    return f"; did you mean {' or '.join(candidates)}?" if candidates else ""


def unknown_flags(arguments: Sequence[str], names: Sequence[str], switches: Sequence[str]) -> list[str]:
    """Reports flags that do not exist, a line each with the nearest ones.

    Args:
        arguments: The command line without the program's name.
        names: Names of all flags, with underscores.
        switches: Names of those that a "no-" before them turns off.
    """
    known = {"help", *(_kebab(name) for name in names), *(f"no-{_kebab(name)}" for name in switches)}
    faults = []
    for argument in arguments:
        flag = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and flag and flag not in known:
            candidates = [f"--{_kebab(name)}" for name in nearest(flag, [*map(_snake, known)])]
            faults.append(f"--{flag}: there is no such flag{did_you_mean(candidates) or '; see --help'}")
    return faults


def unknown_variables(environment: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Reports FERSERVE_ variables that are misspelt settings, a line each with the nearest ones."""
    faults = []
    for variable, value in environment.items():
        name = variable.lower().removeprefix(PREFIX.lower())
        if not value or not variable.upper().startswith(PREFIX) or name in names or _OF_OTHERS.fullmatch(name):
            continue
        similar = nearest(name, names, _SIMILAR)
        if similar:
            candidates = [PREFIX + each.upper() for each in similar]
            faults.append(f"{variable}: there is no such setting{did_you_mean(candidates)}")
    return faults


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _snake(flag: str) -> str:
    return flag.replace("-", "_")
