"""Writes pages that show a file or a folder of the repository; line N has the anchor `L-N`."""

from __future__ import annotations

import html
import posixpath
from typing import Final

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

STYLE_PATH: Final = "source/source.css"

# Above this the colours of a report take seconds.
_COLOURED_BYTES: Final = 200_000
_LAYOUT: Final = """\
:root { color-scheme: light dark }
body { margin: 0; font-family: system-ui, sans-serif; background: Canvas; color: CanvasText }
header, ul { padding: 0.8rem 1.2rem; margin: 0 } li { list-style: none; line-height: 1.8 } a { color: LinkText }
header { border-bottom: 1px solid GrayText; position: sticky; top: 0; background: Canvas }
pre { margin: 0; padding: 0.8rem 1.2rem; font-size: 0.85rem; line-height: 1.4; overflow-x: auto }
pre > span { scroll-margin-top: 5rem } pre > span:target { background: #8884; display: block }
.linenos { opacity: 0.5; padding-right: 1em; user-select: none }
"""


def style() -> str:
    """Returns the style sheet of all these pages, for light and dark."""
    light = HtmlFormatter(style="default", nobackground=True).get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark", nobackground=True).get_style_defs(".highlight")
    return f"{_LAYOUT}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def file_page(path: str, text: str) -> str:
    """Returns the page of a text file with numbered, coloured lines.

    Args:
        path: Its path in the repository.
        text: What it holds.
    """
    try:
        lexer = get_lexer_for_filename(path) if len(text) < _COLOURED_BYTES else TextLexer()
    except ClassNotFound:
        lexer = TextLexer()
    formatter = HtmlFormatter(linenos="inline", linespans="L", wrapcode=False)
    return _page(f"source/{path}.html", path, highlight(text, lexer, formatter))


def folder_page(path: str, entries: dict[str, str]) -> str:
    """Returns the page of a folder.

    Args:
        path: Its path in the repository.
        entries: Names of its files, and the address of each on the site, from the site's root.
    """
    own = f"source/{path}/index.html"
    items = "".join(
        f'<li><a href="{html.escape(_relative(own, address))}">{html.escape(name)}</a></li>\n'
        for name, address in entries.items()
    )
    return _page(own, f"{path}/", f"<ul>\n{items}</ul>\n")


def _page(own: str, title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)} - ferserve</title>\n"
        f'<link rel="icon" href="{_relative(own, "assets/images/favicon.png")}">\n'
        f'<link rel="stylesheet" href="{_relative(own, STYLE_PATH)}">\n</head>\n<body>\n'
        f'<header><a href="{_relative(own, "index.html")}">ferserve</a> / {html.escape(title)}</header>\n'
        f"<main>{body}</main>\n</body>\n</html>\n"
    )


def _relative(own: str, address: str) -> str:
    return posixpath.relpath(address, posixpath.dirname(own))
