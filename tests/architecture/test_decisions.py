"""Holds the decision records to their form: numbers, states, links, and the files that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((ROOT / "docs/adr").glob("*.md"))
SOURCES = [ROOT, *ROOT.glob("*/src/*")]


def state(record):
    """Reads the state line of a record."""
    (found,) = re.findall(r"^- State: (.+)$", record.read_text(), re.MULTILINE)
    return found


ACCEPTED = [record for record in RECORDS if state(record).startswith("accepted")]


def test_numbers_are_unique():
    numbers = [record.name[:4] for record in RECORDS]

    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_a_record_has_its_number_and_a_state(record):
    assert record.read_text().startswith(f"# {record.name[:4]}. ")
    assert state(record).startswith(("accepted, ", "superseded by [", "removed, "))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_links_lead_somewhere(record):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", record.read_text())

    assert not [link for link in links if not (record.parent / link).exists()]


def test_superseded_records_are_named_by_those_that_supersede_them():
    for record in RECORDS:
        for newer in re.findall(r"^superseded by \[\d+\]\(([^)]+)\)", state(record)):
            assert record.name in (record.parent / newer).read_text(), record.name


@pytest.mark.parametrize("record", ACCEPTED, ids=lambda path: path.name)
def test_records_active_name_files_that_are_there(record):
    named = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", record.read_text())

    assert not [path for path in named if not any((source / path).exists() for source in SOURCES)]
