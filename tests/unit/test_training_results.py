import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ferserve_training.errors import TrainingError
from ferserve_training.report.results import (
    BEGIN,
    END,
    Result,
    read_results,
    results_table,
    with_table,
    write_result,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "training" / "results"
RESULT = Result(
    *("seed9", "seed9 (batch_size=8)", "70 % in a blog", "PublicTest", 3589),
    *(0.65, 0.634, 0.666, 0.63, 0.61, 0.0171, 0.066),
    *(10, 12.34, 130_000_000, 2_784_647, "2 cores"),
)


def test_the_table_in_the_documents_is_that_of_the_committed_results():
    document = (ROOT / "docs" / "models.md").read_text()

    assert with_table(document, results_table(read_results(RESULTS))) == document, "run 'make results'"


def test_the_result_of_the_bundled_model_is_what_its_manifest_says():
    manifest = json.loads((ROOT / "model_repo/fer-nano/4/assets.extra/manifest.json").read_text())
    result = asdict(next(each for each in read_results(RESULTS) if each.model == "fer-nano/4"))

    shared = {
        name: value
        for key, value in manifest["metrics"].items()
        if (name := key.removeprefix("public_test_")) in result
    }
    assert len(shared) == 7
    # The same net in float32: the calibration error moves in its eighth digit from run to run.
    assert {name: result[name] for name in shared} == pytest.approx(shared, abs=1e-6)
    assert [result[name] for name in ("mac_count", "parameter_count")] == [
        *(manifest["mac_count"], manifest["parameter_count"])
    ]
    assert (result["epochs"], result["minutes"]) == (
        manifest["training"]["epochs"],
        manifest["training"]["minutes"],
    )


def test_a_row_shows_the_interval_the_changes_and_what_was_published():
    (row,) = results_table([RESULT]).splitlines()[2:]

    assert row == (
        "| `seed9` (batch_size=8) | 70 % in a blog | PublicTest, 3,589 | 65.0 % (63.4-66.6) | 63.0 % | 0.610 "
        "| 0.017 (0.066 before) | 130.00 M | 2,784,647 | 12 min, 10 epochs, 2 cores |"
    )


def test_results_come_back_the_most_accurate_first(tmp_path):
    better = replace(RESULT, model="better", accuracy=0.7)
    write_result(RESULT, tmp_path / "new" / "a.json")
    write_result(better, tmp_path / "new" / "b.json")

    assert read_results(tmp_path / "new") == (better, RESULT)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": "x"}'])
def test_a_file_that_is_no_result_is_named(content, tmp_path):
    (tmp_path / "odd.json").write_text(content)

    with pytest.raises(TrainingError, match=r"odd\.json: is no result"):
        read_results(tmp_path)


def test_a_folder_without_results_says_what_writes_them(tmp_path):
    with pytest.raises(TrainingError, match="'ferserve-train evaluate --result' writes them"):
        read_results(tmp_path)


def test_a_result_that_cannot_be_written_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(TrainingError, match=r"file/a\.json: cannot be written"):
        write_result(RESULT, tmp_path / "file" / "a.json")


def test_the_table_takes_the_place_of_the_one_before():
    document = f"# Models\n\n{BEGIN}\nold\n{END}\n\nMore.\n"

    once = with_table(document, "| new |\n")

    assert once == f"# Models\n\n{BEGIN}\n\n| new |\n\n{END}\n\nMore.\n"
    assert with_table(once, "| new |\n") == once


@pytest.mark.parametrize("document", ["", BEGIN, END])
def test_a_document_without_both_marks_is_left_alone(document):
    with pytest.raises(TrainingError, match="the document needs the lines"):
        with_table(document, "")
