"""Tests the recognition of versions in the repository."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import MANIFEST_PATH
from ferserve_server.models.source import RepositorySource

if TYPE_CHECKING:
    from pathlib import Path


def _put(root: Path, folder: str, *, manifest: bool = True) -> Path:
    path = root / folder / MANIFEST_PATH
    path.parent.mkdir(parents=True)
    if manifest:
        path.write_text("{}")
    return path


def test_versions_are_found_with_the_sum_of_their_manifest(tmp_path: Path) -> None:
    for folder in ("fer-nano/1", "fer-nano/12", "wide_2.net/3"):
        _put(tmp_path, folder).write_text(folder)
    assert RepositorySource(tmp_path).scan().versions == {
        ServableId(model, version): hashlib.sha256(f"{model}/{version}".encode()).hexdigest()
        for model, version in (("fer-nano", 1), ("fer-nano", 12), ("wide_2.net", 3))
    }


@pytest.mark.parametrize(
    "folder",
    [
        "fer-nano/01",  # two folders must not be one version
        "fer-nano/0",
        "fer-nano/-1",
        "fer-nano/v1",
        "fer-nano/1.0",
        "fer-nano/1 ",
        "fer-nano/.1",
        "fer-nano/1e3",
        "fer-nano/²",  # a digit to str.isdigit, none to int
        "fer-nano/" + "9" * 19,  # above int64
        ".staging/1",
        "fer nano/1",
        "ünï/1",
        "n" * 129 + "/1",
    ],
)
def test_folders_that_are_no_version_are_passed_over(tmp_path: Path, folder: str) -> None:
    _put(tmp_path, folder)
    assert RepositorySource(tmp_path).scan().versions == {}


def test_a_version_without_a_manifest_is_still_being_written(tmp_path: Path) -> None:
    _put(tmp_path, "fer-nano/1", manifest=False)
    assert RepositorySource(tmp_path).scan().versions == {}


def test_files_among_the_folders_do_no_harm(tmp_path: Path) -> None:
    _put(tmp_path, "fer-nano/2")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "fer-nano" / "3").write_text("x")
    assert list(RepositorySource(tmp_path).scan().versions) == [ServableId("fer-nano", 2)]


def test_a_repository_that_is_not_there_has_no_versions(tmp_path: Path) -> None:
    assert RepositorySource(tmp_path / "nowhere").scan().versions == {}


def test_a_repository_that_is_a_file_has_no_versions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert RepositorySource(tmp_path / "file").scan().versions == {}


def test_a_version_lies_where_tensorflow_serving_puts_it(tmp_path: Path) -> None:
    assert RepositorySource(tmp_path).directory(ServableId("fer-nano", 7)) == tmp_path / "fer-nano" / "7"
