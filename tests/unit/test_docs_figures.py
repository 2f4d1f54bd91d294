"""Compares the figures of the README with the committed reports that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def report(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def figure(row: str) -> float:
    """The figure of a row of the table, which begins so."""
    found = re.search(rf"^\| {re.escape(row)} \| ([\d.,]+)", README, re.MULTILINE)
    assert found is not None, row
    return float(found[1].replace(",", ""))


def test_the_rates_are_those_of_the_report() -> None:
    loads = report("serving")["loads"]
    rate = {name: load["default"]["faces_per_s"] for name, load in loads.items()}

    assert figure("face crops a second, in calls of 32") == round(rate["unary, 32 faces, 4 at once"])
    assert figure("face crops a second, in calls of one, 128 at once") == round(rate["unary, 1 face, 128 at once"])
    assert figure("photographs of one face a second, search included") == rate["picture, 2 at once"]
    assert report("serving")["model"] == "fer-nano"


def test_the_start_takes_as_long_as_the_report_says() -> None:
    seconds = report("start_time")["ready_s"]["median"]

    assert figure("from the start until it is ready") == round(seconds, 1)


def test_the_accuracy_is_that_of_the_model_that_is_shipped() -> None:
    model = "fer-small"
    (version,) = (path.name for path in (ROOT / "model_repo" / model).iterdir() if path.is_dir())
    row = next(
        line
        for line in (ROOT / "docs" / "models.md").read_text().splitlines()
        if line.startswith(f"| `{model}/{version}`")
    )

    assert f"| {figure(f'accuracy of the default model, `{model}/{version}`')} %" in row
