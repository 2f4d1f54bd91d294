"""Draws collapsed stacks as a flame graph: a small SVG of boxes with tooltips, without scripts. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 1200.0
ROW = 16
LEAST_SHARE = 0.003
"""Boxes narrower than this share are left out: 3.6 of 1200 pixels hold no text."""

_COLOURS = ("#f2a65a", "#eec170", "#e98a5b", "#f4b886")
_PIXELS_A_LETTER = 6.4

_PROCESS = re.compile(r'process \d+:"\S*python\S* (?:-\S+ )*?-m (\S+)')
"""How py-spy begins the stacks of a process: with its number and command, which are those of one run."""


@dataclass(slots=True)
class Node:
    """A function as called by those above it: samples in it or below, and what it called."""

    count: int = 0
    callees: dict[str, Node] = field(default_factory=dict)


def tree_of(lines: Iterable[str]) -> Node:
    """The calls of collapsed stacks.

    Args:
        lines: `caller;callee;... COUNT` each, as py-spy's format raw has them.
    """
    root = Node()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        node = root
        node.count += int(count)
        for frame in stack.split(";"):
            found = _PROCESS.match(frame)
            node = node.callees.setdefault(f"process {found[1]}" if found else frame, Node())
            node.count += int(count)
    return root


def self_shares(root: Node, most: int) -> list[tuple[str, float]]:
    """The functions in which most samples were taken, by share of all."""
    own: dict[str, int] = {}

    def visit(name: str, node: Node) -> None:
        own[name] = own.get(name, 0) + node.count - sum(callee.count for callee in node.callees.values())
        for each, callee in node.callees.items():
            visit(each, callee)

    for each, callee in root.callees.items():
        visit(each, callee)
    ranked = sorted(own.items(), key=lambda item: -item[1])[:most]
    return [(name, count / max(root.count, 1)) for name, count in ranked]


def svg_of(root: Node, title: str) -> str:
    """The flame graph: callers above, wider is more samples."""
    boxes: list[str] = []
    deepest = 0

    def draw(name: str, node: Node, left: float, depth: int) -> None:
        nonlocal deepest
        width = WIDTH * node.count / max(root.count, 1)
        if width < WIDTH * LEAST_SHARE:
            return
        deepest = max(deepest, depth)
        top = 24 + depth * ROW
        colour = _COLOURS[sum(name.encode()) % len(_COLOURS)]
        letters = int((width - 4) / _PIXELS_A_LETTER)
        text = f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(name[:letters])}</text>' if letters > 3 else ""
        boxes.append(
            f'<g><title>{escape(name)} {node.count / root.count:.1%}</title><rect x="{left:.1f}" y="{top}" '
            f'width="{width:.1f}" height="{ROW - 1}" fill="{colour}"/>{text}</g>'
        )
        for each, callee in sorted(node.callees.items()):
            draw(each, callee, left, depth + 1)
            left += WIDTH * callee.count / root.count

    left = 0.0
    for each, callee in sorted(root.callees.items()):
        draw(each, callee, left, 0)
        left += WIDTH * callee.count / root.count
    height = 24 + (deepest + 1) * ROW + 4
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}" font-family="monospace" '
        f'font-size="10.5"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="4" y="16" font-size="13">{escape(title)}</text>'
    )
    return "\n".join([head, *boxes, "</svg>", ""])
