"""Builds the documentation site from files inside and outside docs/; MkDocs calls the functions (mkdocs.yml)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url
from pymdownx.slugs import slugify
from pymdownx.superfences import fence_code_format
from site_links import DOCS, SOURCE, rewrite, separate_lists, site_path, targets_of
from source_pages import STYLE_PATH, file_page, folder_page, style

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

Nav: TypeAlias = "str | list[Nav] | dict[str, Nav]"

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
# Draws the diagrams. Without it, which needs npm, they are shown as text, and nothing is loaded from elsewhere.
MERMAID: Final = HERE / "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"
MERMAID_PATH: Final = "assets/mermaid.js"

_BUNDLE: Final = re.compile(r'<script src="[^"]*/?bundle\.')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the files that stars of the navigation stand for; sets what YAML cannot say."""
    config.nav = _expanded(config.nav)
    # Anchors of headings as GitHub makes them.
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    if MERMAID.is_file():
        fence = {"name": "mermaid", "class": "mermaid", "format": fence_code_format}
        config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds documents outside docs/, a page for each file that a document links to, and what draws diagrams."""
    for name in _names(config.nav):
        if files.get_file_from_path(name) is None and (ROOT / name).is_file():
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    pages = _pages(files)
    targets = {target for page in pages for target in targets_of(page, (ROOT / page).read_text())}
    folders = {target for target in targets if (ROOT / target).is_dir()}
    targets |= {f"{folder}/{path.name}" for folder in folders for path in _files_of(folder)}
    for target in sorted(targets):
        path = site_path(target, pages, is_folder=target in folders)
        if path.startswith(SOURCE) and (ROOT / target).exists():
            content = _folder(target, pages) if target in folders else _file(target)
            files.append(File.generated(config, path, content=content))
    files.append(File.generated(config, STYLE_PATH, content=style()))
    if MERMAID.is_file():
        files.append(File.generated(config, MERMAID_PATH, abs_src_path=str(MERMAID)))
    return files


def on_page_markdown(
    markdown: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - MkDocs passes it by name
    files: Files,
) -> str:
    """Makes links lead to pages of the site, and lists to be read as GitHub reads them."""
    return separate_lists(rewrite(_document(page.file), markdown, _pages(files), _kind))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - as above
    """Loads the drawing of diagrams on pages that have some."""
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(MERMAID_PATH, page.url)}"></script>'
    return _BUNDLE.sub(lambda found: script + found[0], output, count=1)


def _expanded(nav: Nav) -> Nav:
    if isinstance(nav, dict):
        return {title: _expanded(entry) for title, entry in nav.items()}
    if isinstance(nav, str):
        return nav
    expanded: list[Nav] = []
    for entry in nav:
        expanded += _starred(entry) if isinstance(entry, str) else [_expanded(entry)]
    return expanded


def _starred(entry: str) -> list[str]:
    if "*" not in entry:
        return [entry]
    return sorted(path.relative_to(ROOT / DOCS).as_posix() for path in (ROOT / DOCS).glob(entry))


def _names(nav: Nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for entry in (nav.values() if isinstance(nav, dict) else nav) for name in _names(entry)]


def _document(file: File) -> str:
    return Path(file.abs_src_path).relative_to(ROOT).as_posix()


def _pages(files: Files) -> set[str]:
    return {_document(file) for file in files.documentation_pages()}


def _kind(target: str) -> str:
    path = ROOT / target
    return "folder" if path.is_dir() else "file" if path.is_file() and path.is_relative_to(ROOT) else ""


def _files_of(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).iterdir() if path.is_file())


def _file(target: str) -> str:
    return file_page(target, (ROOT / target).read_text(errors="replace"))


def _folder(target: str, pages: set[str]) -> str:
    entries = {}
    for path in _files_of(target):
        address = site_path(f"{target}/{path.name}", pages, is_folder=False)
        entries[path.name] = re.sub(r"\.md$", ".html", address)
    return folder_page(target, entries)
