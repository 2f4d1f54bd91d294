"""Checks output files before the work begins."""

import os
from collections.abc import Iterable
from pathlib import Path

import typer


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[str]) -> None:
    """Reject outputs that would overwrite an input or each other.

    Raises:
        typer.BadParameter: An output is an input, or two outputs are one file.
    """
    sources = [Path(each) for each in inputs]
    seen: list[Path] = []
    for output in outputs:
        if output is None:
            continue
        for source in sources:
            if is_same(output, source):
                raise typer.BadParameter(f"{output} is an input; name another file for the output")
        if any(is_same(output, other) for other in seen):
            raise typer.BadParameter(f"{output} is named for two outputs")
        seen.append(output)


def is_same(one: Path, other: Path) -> bool:
    """Tell whether two names lead to one file, through links too, also before it is there."""
    try:
        return one.samefile(other)
    except OSError:
        return Path(os.path.realpath(one)) == Path(os.path.realpath(other))
