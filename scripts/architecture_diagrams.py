"""Draws the server's packages and modules from its imports, as Mermaid diagrams in docs/architecture.md.

One diagram shows the packages, one more each layer: the modules of its packages and the imports between them.
Layers are those of the import-linter contract in pyproject.toml. Links to definitions, [`Class.method`](x.py#L1),
get the line where the definition begins. Run with `make architecture`; a test compares the document with the code.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grimp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs" / "architecture.md"
SERVER: Final = "ferserve_server"
BLOCK: Final = re.compile(r"<!-- diagram: ([\w ]+) -->\n(?:```mermaid\n.*?```\n)?<!-- end -->\n", re.DOTALL)
LINK: Final = re.compile(r"\[`([\w.]+)`\]\(([\w./-]+\.py)#L\d+\)")

Edges = set[tuple[str, str]]


def layers() -> list[list[str]]:
    """Reads the layers of the server, from the top, each a list of packages."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = (each["layers"] for each in contracts if each["type"] == "layers")
    return [[package.strip() for package in layer.split("|")] for layer in found]


def module_imports() -> Edges:
    """Lists the imports between the server's modules as pairs of names below `ferserve_server`."""
    graph = grimp.build_graph(SERVER, exclude_type_checking_imports=True)
    start = len(SERVER) + 1
    return {
        (module[start:], imported[start:])
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if SERVER not in {module, imported}
    }


def package_of(module: str) -> str:
    """Names the package below `ferserve_server` that a module belongs to."""
    return module.partition(".")[0]


def packages_diagram(imports: Edges) -> Iterator[str]:
    """Draws the packages, layer by layer, and the imports between them that no chain of other imports implies."""
    for number, layer in enumerate(layers()):
        yield f'  subgraph layer{number}[" "]'
        yield from (f"    {_node(package)}[{package}]" for package in layer)
        yield "  end"
    pairs = {(package_of(one), package_of(other)) for one, other in imports}
    direct = _without_implied({(one, other) for one, other in pairs if one != other})
    yield from (f"  {_node(one)} --> {_node(other)}" for one, other in sorted(direct))


def _without_implied(edges: Edges) -> Edges:
    """Leaves out the edges of an acyclic graph that a longer path implies."""
    below: dict[str, set[str]] = defaultdict(set)
    for one, other in edges:
        below[one].add(other)

    def reachable(node: str) -> set[str]:
        return below[node].union(*(reachable(each) for each in list(below[node])))

    return {
        (one, other) for one, other in edges if not any(other in reachable(each) for each in below[one] - {other})
    }


def layer_diagram(packages: Iterable[str], imports: Edges) -> Iterator[str]:
    """Draws the modules of a layer's packages and the imports between them."""
    inside: Mapping[str, set[str]] = defaultdict(set)
    for pair in imports:
        for module in pair:
            if package_of(module) in packages and "." in module:
                inside[package_of(module)].add(module)
    for package in packages:
        yield f"  subgraph {_node(package)}[{package}]"
        yield from (f"    {_node(module)}[{module.partition('.')[2]}]" for module in sorted(inside[package]))
        yield "  end"
    shown = set().union(*inside.values()) if inside else set()
    yield from (f"  {_node(one)} --> {_node(other)}" for one, other in sorted(imports) if {one, other} <= shown)


def _node(name: str) -> str:
    return name.replace(".", "_") + "_"


@cache
def definitions(path: Path) -> dict[str, int]:
    """Lists the classes and functions of a file, methods as `Class.method`, each with the line where it begins."""
    found: dict[str, int] = {}

    def collect(body: Iterable[ast.stmt], prefix: str) -> None:
        for each in body:
            if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[prefix + each.name] = each.lineno
            if isinstance(each, ast.ClassDef):
                collect(each.body, f"{prefix}{each.name}.")

    collect(ast.parse(path.read_text()).body, "")
    return found


def filled(text: str) -> str:
    """Returns the document with every diagram drawn from the code, and every linked line set.

    Raises:
        KeyError: The document has a diagram of no layer, or links a definition that is not there.
        FileNotFoundError: The document links a file that is not there.
    """
    imports = module_imports()
    diagrams = {"packages": list(packages_diagram(imports))}
    for layer in layers():
        diagrams[" ".join(layer)] = list(layer_diagram(layer, imports))

    def drawn(block: re.Match[str]) -> str:
        lines = "\n".join(diagrams[block[1]])
        return f"<!-- diagram: {block[1]} -->\n```mermaid\nflowchart TB\n{lines}\n```\n<!-- end -->\n"

    def linked(link: re.Match[str]) -> str:
        name, path = link.groups()
        return f"[`{name}`]({path}#L{definitions((DOCUMENT.parent / path).resolve())[name]})"

    return LINK.sub(linked, BLOCK.sub(drawn, text))


def main() -> None:
    """Writes the diagrams and the linked lines into the document."""
    DOCUMENT.write_text(filled(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
