"""Tests `ferserve folder`, and `ferserve analyze` of folders, against a scripted server."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ferserve_client.cli import app
from support.scripted_server import BROKEN, ScriptedServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

PICTURE_COUNT = 60
PROGRAM = "from ferserve_client.cli import main\nmain()\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty pictures in two folders, one of them broken, and what is no picture."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(PICTURE_COUNT):
        path = folder / ("sub" if number % 2 else "") / f"{number:02}.JPG"
        path.write_bytes(BROKEN if number == 7 else bytes([number, 1, 2]))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(b"\x01")
    return folder


def run(*arguments: str | Path, server: ScriptedServer) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"FERSERVE_SERVER": server.address})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table_and_bad_files_are_named(
    server: ScriptedServer, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "faces.csv"

    ran = run("folder", pictures, "--out", out, server=server)

    assert ran.exit_code == 1
    assert ran.stdout == f"60 pictures, 1 failed: {out}\n"
    assert ran.stderr == "ferserve: sub/07.JPG: The picture cannot be decoded.\n"
    rows = rows_of(out)
    assert [row["source"] for row in rows] == sorted(
        str(path.relative_to(pictures)) for path in pictures.rglob("*.JPG")
    )
    bad = next(row for row in rows if row["source"] == "sub/07.JPG")
    assert (bad["outcome"], bad["message"]) == ("IMAGE_UNREADABLE", "The picture cannot be decoded.")
    assert (rows[0]["emotion"], rows[0]["picture_width"], rows[0]["model"]) == ("angry", "640", "fer-nano")
    assert {request.priority for request in server.requests["AnalyzeImages"]} == {2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.csv", "pictures"]


def test_parquet_holds_the_same_rows_with_types(server: ScriptedServer, pictures: Path, tmp_path: Path) -> None:
    run("folder", pictures, "--out", tmp_path / "a.csv", server=server)
    run("folder", pictures, "--out", tmp_path / "a.parquet", server=server)

    typed = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["source"] for row in typed] == [row["source"] for row in rows_of(tmp_path / "a.csv")]
    assert (typed[0]["left"], typed[0]["uncertain"], typed[0]["score_angry"]) == (10, False, pytest.approx(0.7))
    assert next(row for row in typed if row["source"] == "sub/07.JPG")["emotion"] is None


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_run_that_was_killed_goes_on_to_the_end_of_one_run(
    server: ScriptedServer, pictures: Path, tmp_path: Path, ending: str
) -> None:
    whole, resumed = tmp_path / f"whole.{ending}", tmp_path / f"resumed.{ending}"
    run("folder", pictures, "--out", whole, server=server)
    arguments = ["folder", str(pictures), "--out", str(resumed), "--in-flight", "1"]
    server.image_delay_s = 0.05
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        running.stderr.readline()  # the broken picture, of the second half of the order
        running.kill()
    assert resumed.with_name(resumed.name + ".partial").exists()
    server.image_delay_s = 0.0
    server.requests.clear()

    ran = run(*arguments, server=server)

    assert ran.exit_code == 1
    assert "1 failed" in ran.stdout
    assert "going on: " in ran.stderr
    assert sum(len(request.images) for request in server.requests["AnalyzeImages"]) < PICTURE_COUNT
    assert resumed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.501, 0.502, 0.9, 1.0])
def test_a_work_file_that_was_cut_anywhere_is_gone_on_with(
    server: ScriptedServer, pictures: Path, tmp_path: Path, share: float
) -> None:
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    run("folder", pictures, "--out", whole, server=server)
    options = {"detector": None, "directory": str(pictures.resolve()), "min_face": None, "model": "",
               "score_threshold": None, "tiles": False, "version": None}  # fmt: skip
    data = whole.read_bytes()
    (tmp_path / "resumed.csv.partial").write_bytes(data[: int(len(data) * share)])
    (tmp_path / "resumed.csv.partial.json").write_text(json.dumps(options, sort_keys=True))

    assert run("folder", pictures, "--out", resumed, server=server).exit_code == 1
    assert resumed.read_bytes() == data


def test_a_work_file_of_other_options_is_not_gone_on_with(
    server: ScriptedServer, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv.partial").write_text("source\n")
    (tmp_path / "a.csv.partial.json").write_text("{}")

    ran = run("folder", pictures, "--out", tmp_path / "a.csv", server=server)

    assert ran.exit_code == 2
    assert "other options" in " ".join(ran.stderr.replace("│", "").split())
    assert run("folder", pictures, "--out", tmp_path / "a.csv", "--overwrite", server=server).exit_code == 1


def test_a_table_that_is_there_is_not_replaced_unasked(
    server: ScriptedServer, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("mine")

    assert run("folder", pictures, "--out", tmp_path / "a.csv", server=server).exit_code == 2
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert run("folder", pictures, "--out", tmp_path / "a.txt", server=server).exit_code == 2


def test_a_folder_without_pictures_is_one_line(server: ScriptedServer, tmp_path: Path) -> None:
    ran = run("folder", tmp_path, "--out", tmp_path / "a.csv", server=server)

    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "no picture is there" in ran.stderr


def test_a_server_that_goes_away_leaves_a_work_file_to_go_on_with(
    server: ScriptedServer, pictures: Path, tmp_path: Path
) -> None:
    ran = CliRunner().invoke(
        app,
        ["folder", str(pictures), "-o", str(tmp_path / "a.csv"), "--server", "127.0.0.1:1", "--timeout", "0.5"],
    )

    assert ran.exit_code == 1
    assert "no server answers" in ran.stderr
    assert (tmp_path / "a.csv.partial").exists()
    assert run("folder", pictures, "--out", tmp_path / "a.csv", server=server).exit_code == 1


def test_analyze_takes_folders_and_writes_a_table(server: ScriptedServer, pictures: Path, tmp_path: Path) -> None:
    single = tmp_path / "one.png"
    single.write_bytes(b"\x03")

    ran = run("analyze", single, pictures, "--json", "--csv", tmp_path / "a.csv", server=server)

    assert ran.exit_code == 1
    sources = [json.loads(line)["source"] for line in ran.stdout.splitlines()]
    assert sources[0] == str(single)
    assert sources[1:] == sorted(str(path) for path in pictures.rglob("*.JPG"))
    assert [row["source"] for row in rows_of(tmp_path / "a.csv")] == sources


@pytest.mark.parametrize("name", [b"p\xff.jpg", b"10:00.jpg", "ä b.jpg".encode()])
def test_every_name_of_a_picture_works(server: ScriptedServer, tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    shutil.copyfile(Path(__file__).parents[1] / "media" / "astronaut.jpg", path)
    (tmp_path / "next.jpg").write_bytes(b"\x03")
    environment = {**os.environ, "FERSERVE_SERVER": server.address, "PYTHONIOENCODING": "ascii:strict"}

    for arguments in (["analyze", "--save", "out"], ["analyze", "--json"], ["classify"]):
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM, arguments[0], path, *arguments[1:]],
            env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, "")
    assert len(list((tmp_path / "out").iterdir())) == 1
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "folder", ".", "-o", "a.csv"],
        env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
