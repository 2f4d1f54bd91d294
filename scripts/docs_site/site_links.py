"""Computes where links of the repository's documents lead on the documentation site.

Paths are those of the repository, with slashes, from its root. A page of the site has the path of its document,
without `docs/`; every other file or folder that a document links to has a page below `source/`.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCS: Final = "docs/"
SOURCE: Final = "source/"

# Fenced blocks and code spans come first, so that no link is found in them. A colon makes an address of a link.
_CODE_OR_LINK: Final = re.compile(
    r"^[ ]*```.*?^[ ]*```|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)|\]\((?P<link>[^)\s:]+)\)",
    re.MULTILINE | re.DOTALL,
)
_LINE: Final = re.compile(r"L(\d+)")
_LIST_AFTER_TEXT: Final = re.compile(r"^(?![-*|#>\s]|\d+\. )(.+)\n(?=(?:[-*]|1\.) )", re.MULTILINE)
_FENCE: Final = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def targets_of(document: str, text: str) -> Iterator[str]:
    """Yields the files and folders of the repository that a document links to."""
    for found in _CODE_OR_LINK.finditer(text):
        name = (found["link"] or "").partition("#")[0]
        if name:
            yield _target(document, name)


def site_path(target: str, pages: set[str], *, is_folder: bool) -> str:
    """Computes the path of a file or folder on the site, before Markdown becomes HTML.

    Args:
        target: The file or folder.
        pages: The documents that are pages of the site.
        is_folder: Whether it is a folder.
    """
    if target in pages or (target.startswith(DOCS) and not is_folder):
        return target.removeprefix(DOCS)
    return f"{SOURCE}{target}/index.html" if is_folder else f"{SOURCE}{target}.html"


def rewrite(document: str, text: str, pages: set[str], exists: Callable[[str], str]) -> str:
    """Replaces links of a document by those that lead to the same place on the site.

    A link that leads nowhere stays as it is, so that the strict build reports it.

    Args:
        document: The document.
        text: Its Markdown.
        pages: The documents that are pages of the site.
        exists: Says of a path whether it is a "file", a "folder" or neither ("").
    """
    folder = posixpath.dirname(document.removeprefix(DOCS))

    def replaced(found: re.Match[str]) -> str:
        name, mark, anchor = (found["link"] or "").partition("#")
        target = _target(document, name)
        kind = exists(target) if name else ""
        if not kind:
            return found[0]
        path = site_path(target, pages, is_folder=kind == "folder")
        if path.startswith(SOURCE):
            anchor = _LINE.sub(r"L-\1", anchor)
        return f"]({posixpath.relpath(path, folder or '.')}{mark}{anchor})"

    return _CODE_OR_LINK.sub(replaced, text)


def separate_lists(text: str) -> str:
    """Puts an empty line between a line of text and a list below it.

    GitHub reads such a list as one; Python-Markdown takes it for more of the paragraph.
    """
    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LIST_AFTER_TEXT.sub(r"\1\n\n", part) for part in parts)


def _target(document: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), name))
