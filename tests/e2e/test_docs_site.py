"""Tests that `make docs` builds a site without broken links that loads nothing from other hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
BROWSER_TESTS = ROOT / "tests" / "browser"
MERMAID = ROOT / "scripts/docs_site/node_modules/@mermaid-js/tiny"
# How pip, uv and npm say that an index cannot be reached.
UNREACHABLE = re.compile(
    r"NewConnectionError|name resolution|error sending request|Failed to fetch|connection refused|dns error"
    r"|ConnectTimeout|ReadTimeout|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT",
    re.IGNORECASE,
)
needs_browser = pytest.mark.skipif(
    not (shutil.which(os.environ.get("CHROMIUM", "chromium")) and (BROWSER_TESTS / "node_modules").is_dir()),
    reason="needs Debian's chromium, node, and `make browser-tools`",
)


class Links(HTMLParser):
    """Collects the anchors of a page, what it links to, and what a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a":
            self.links += [values["href"]] if "href" in values else []
        else:
            self.loaded += [values[name] for name in ("src", "href") if name in values]


def make(target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", target],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=170,
    )


@pytest.fixture(scope="module")
def pages() -> dict[Path, Links]:
    """The pages of the site by path, as `make docs` builds it."""
    tools = make("docs-tools")
    if tools.returncode != 0 and UNREACHABLE.search(tools.stdout):
        pytest.skip(f"the package index cannot be reached: {tools.stdout.strip().splitlines()[-1]}")
    assert tools.returncode == 0, tools.stdout
    built = make("docs")
    assert built.returncode == 0, built.stdout
    assert "\nWARNING" not in built.stdout
    return {path: Links(path.read_text()) for path in SITE.rglob("*.html") if path.name != "404.html"}


def test_every_document_is_a_page(pages: dict[Path, Links]) -> None:
    documents = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    outside = {
        "index",
        "CHANGELOG",
        "CONTRIBUTING",
        "SECURITY",
        "deploy/index",
        "examples/index",
        "training/index",
    }

    missing = documents | {Path(f"{name}.html") for name in outside}
    assert missing - {page.relative_to(SITE) for page in pages} == set()


def test_every_link_leads_to_a_file_and_an_anchor_of_the_site(pages: dict[Path, Links]) -> None:
    assert list(_broken(pages)) == []
    assert any("#L-" in link for link in pages[SITE / "architecture.html"].links)


def _broken(pages: dict[Path, Links]) -> Iterator[str]:
    for page, found in pages.items():
        for link in found.links + found.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                yield f"{page.relative_to(SITE)}: {link}"


def test_nothing_is_loaded_from_other_hosts(pages: dict[Path, Links]) -> None:
    loaded = {each for found in pages.values() for each in found.loaded}

    assert [each for each in loaded if urlsplit(each).netloc] == []
    styles = [path.read_text() for path in SITE.rglob("*.css")]
    assert styles
    assert not any(re.search(r"@import|url\(['\"]?(?:https?:)?//", style) for style in styles)


def test_the_screenshots_are_shown_all(pages: dict[Path, Links]) -> None:
    shown = {Path(each).name for each in pages[SITE / "screenshots.html"].loaded}

    assert {path.name for path in (ROOT / "docs" / "images").glob("page-*.jpg")} <= shown


def test_a_list_right_below_text_is_a_list(pages: dict[Path, Links]) -> None:
    assert "<li><strong>forbids</strong>" in (SITE / "responsible-use.html").read_text()


@needs_browser
def test_a_browser_draws_the_diagrams_without_other_hosts(pages: dict[Path, Links]) -> None:
    done = subprocess.run(
        ["node", "docs_site.mjs", SITE / "architecture.html"],
        cwd=BROWSER_TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    diagrams = (ROOT / "docs" / "architecture.md").read_text().count("```mermaid") if MERMAID.is_dir() else 0
    assert json.loads(done.stdout) == {"drawn": diagrams, "elsewhere": []}
