"""Compares docs/architecture.md with the code: diagrams, linked lines, and the files that it names."""

import re

import architecture_diagrams
import pytest

PAGE = architecture_diagrams.DOCUMENT.read_text()
SERVER = architecture_diagrams.ROOT / "server/src/ferserve_server"
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)(?:#L(\d+))?\)", PAGE)
DEFINITIONS = re.findall(r"\[`([\w.]+)`\]\(([^)#]+)#L(\d+)\)", PAGE)


def named_paths():
    """Lists the paths in backticks: files and folders of the server."""
    return sorted(set(re.findall(r"`([a-z_0-9/]+(?:/|\.py))`", PAGE)))


def test_diagrams_and_lines_are_those_of_the_code():
    assert architecture_diagrams.filled(PAGE) == PAGE, "run `make architecture`"


def test_every_layer_has_a_diagram():
    names = {block[1] for block in architecture_diagrams.BLOCK.finditer(PAGE)}

    assert names == {"packages"} | {" ".join(layer) for layer in architecture_diagrams.layers()}


def test_every_package_has_a_purpose():
    packages = {package for layer in architecture_diagrams.layers() for package in layer} - {"__main__"}

    assert packages == set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE))


def test_every_link_leads_to_a_file():
    assert len(LINKS) > 50
    assert not [path for path, _ in LINKS if not (architecture_diagrams.DOCUMENT.parent / path).exists()]


@pytest.mark.parametrize(("name", "path", "line"), sorted(set(DEFINITIONS)))
def test_a_linked_line_defines_what_the_link_names(name, path, line):
    lines = (architecture_diagrams.DOCUMENT.parent / path).read_text().splitlines()

    assert re.match(rf"\s*(async def|def|class) {name.rpartition('.')[2]}\b", lines[int(line) - 1])


def test_every_path_named_is_there():
    assert len(named_paths()) > 50
    assert not [
        path
        for path in named_paths()
        if not (SERVER / path).exists() and not (architecture_diagrams.ROOT / path).exists()
    ]


def test_a_moved_definition_is_noticed():
    stale = re.sub(r"#L\d+", "#L1", PAGE)

    assert architecture_diagrams.filled(stale) == PAGE != stale


def test_a_link_to_a_definition_that_is_gone_fails():
    with pytest.raises(KeyError):
        architecture_diagrams.filled("[`no_such_function`](../server/src/ferserve_server/cli.py#L1)")
