"""Tests that no retired word of docs/adr/0025 is used, in code, documents, messages, or names of files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = "docs/adr/0025-the-tree-follows-the-architecture.md"

EXEMPT = (
    RECORD,  # retires them
    "tests/unit/test_retired_words.py",
    "LICENSE",
    "model_repo/",  # published versions: their checksums cover every text
    "requirements/",
    "server/src/ferserve_server/interop/descriptors.binpb",
)

RETIRED = {
    "express door": r"express doors?",
    "door": r"doors?|doorways?",
    "turn": r"(?:in|per|its|their|a|one|by|took|takes?|has|have|whose) turns?|turns? of the event loop",
    "company": r"company",
    "desk": r"desks?",
    "fleet": r"fleets?",
    "status book": r"status ?books?",
    "front process": r"front process(?:es)?|fronts",
    "owner": r"owners?",
    "trial": r"trials?",
    "gate": r"gates?|gated",
    "told": r"told",
    "befalls": r"befalls?|befell",
    "anew": r"anew",
    "arena": r"arenas?",
    "mailbox": r"mailbox(?:es)?",
    "conversation": r"conversations?",
    "hand over": r"hand(?:s|ed|ing)?[ -]?over",
    "take over": r"tak(?:es|ing|en|e) over|took over",
    "recast": r"recasts?",
    "spare": r"spares?",
    "revival": r"reviv(?:al|als|e|es|ed)",
    "in force": r"in force",
    "for ever": r"for ever",
    "refuse": r"refus(?:e|es|ed|ing|al|als)",
}
"""Patterns of the retired words. Words of a name are separated as those of a sentence: `_told`, `OwnerShare`."""

ALLOWED = (
    # Names of glibc, of RFC 9113, of errno, and of Python.
    r"MALLOC_ARENA_MAX|REFUSED_STREAM|ECONNREFUSED|ConnectionRefused\w*|[Cc]onnection refused",
)


def words_of(text: str) -> str:
    """Separates the words of names, so that a pattern finds them as it finds those of a sentence."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub("|".join(ALLOWED), " ", text))
    return re.sub(r"[_\s]+", " ", apart)


def listed_files() -> list[str]:
    """Lists the files of the repository that may hold a retired word."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if not name.startswith(EXEMPT) and (ROOT / name).is_file()]


def uses(pattern: str) -> list[str]:
    """Finds the uses of a retired word in the lines and names of all files."""
    word = re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    found = []
    for name in listed_files():
        content = (ROOT / name).read_bytes()
        if word.search(words_of(name)):
            found.append(name)
        if b"\0" in content:  # a picture, or another binary file
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if word.search(words_of(line)):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    return found


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_word_is_used_nowhere(name: str) -> None:
    assert uses(RETIRED[name]) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("self._told = 1", "told"),
        ("class OwnerShare:", "owner"),
        ("hand_over(socket)", "hand over"),
        ("in its turn", "turn"),
        ("--door express", "door"),
    ],
)
def test_a_word_within_a_name_is_found(text: str, name: str) -> None:
    assert re.search(rf"\b(?:{RETIRED[name]})\b", words_of(text), re.IGNORECASE)
