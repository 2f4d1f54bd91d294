"""Tests where links of the repository's documents lead on the documentation site."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from docs_site.site_links import rewrite, separate_lists, targets_of

ROOT = Path(__file__).parents[2]
PAGES = {"README.md", "docs/page.md", "docs/adr/0001-record.md", "deploy/README.md"}
FILES = PAGES | {"docs/images/demo.jpg", "server/batcher.py", "LICENSE"}
FOLDERS = {"proto/v1", "docs/adr"}


def kind(target: str) -> str:
    return "file" if target in FILES else "folder" if target in FOLDERS else ""


@pytest.mark.parametrize(
    ("document", "link", "on_the_site"),
    [
        ("README.md", "docs/page.md#video", "page.md#video"),
        ("README.md", "docs/images/demo.jpg", "images/demo.jpg"),
        ("README.md", "proto/v1", "source/proto/v1/index.html"),
        ("README.md", "docs/adr", "source/docs/adr/index.html"),
        ("README.md", "LICENSE", "source/LICENSE.html"),
        ("docs/page.md", "../README.md", "README.md"),
        ("docs/page.md", "../deploy/README.md", "deploy/README.md"),
        ("docs/page.md", "../server/batcher.py#L34", "source/server/batcher.py.html#L-34"),
        ("docs/adr/0001-record.md", "../page.md", "../page.md"),
        ("docs/adr/0001-record.md", "../../server/batcher.py", "../source/server/batcher.py.html"),
        ("deploy/README.md", "../docs/page.md", "../page.md"),
        ("docs/page.md", "#video", "#video"),
        ("docs/page.md", "missing.md", "missing.md"),
    ],
)
def test_a_link_leads_to_the_same_place(document: str, link: str, on_the_site: str) -> None:
    assert rewrite(document, f"[text]({link})", PAGES, kind) == f"[text]({on_the_site})"


@pytest.mark.parametrize(
    "text",
    [
        "[text](https://example.com/docs/page.md)",
        "`[text](docs/page.md)`",
        "``a ` [text](docs/page.md)``",
        "```\n[text](docs/page.md)\n```",
    ],
)
def test_addresses_and_code_stay_as_they_are(text: str) -> None:
    assert rewrite("README.md", text, PAGES, kind) == text
    assert list(targets_of("README.md", text)) == []


def test_a_link_with_code_as_its_text_is_found() -> None:
    text = "[`page`](docs/page.md), `code`, [other](deploy/README.md)"

    assert list(targets_of("README.md", text)) == ["docs/page.md", "deploy/README.md"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("It\n- one\n- two\n", "It\n\n- one\n- two\n"),
        ("It\n1. one\n", "It\n\n1. one\n"),
        ("- one\n- two\n", "- one\n- two\n"),
        ("- one\n  goes on\n- two\n", "- one\n  goes on\n- two\n"),
        ("```\nIt\n- one\n```\n", "```\nIt\n- one\n```\n"),
    ],
)
def test_a_list_below_text_is_separated_as_github_reads_it(written: str, read: str) -> None:
    assert separate_lists(written) == read


def names_of(nav) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    return {name for entry in (nav.values() if isinstance(nav, dict) else nav) for name in names_of(entry)}


def test_every_document_has_its_place_in_the_navigation() -> None:
    names = names_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])

    for document in (ROOT / "docs").rglob("*.md"):
        path = document.relative_to(ROOT / "docs").as_posix()
        assert path in names or f"{path.rpartition('/')[0]}/*.md" in names, f"mkdocs.yml does not list {path}"
    assert [name for name in names if not any(folder.glob(name) for folder in (ROOT / "docs", ROOT))] == []
