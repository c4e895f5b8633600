"""Two runs held against each other: what moved, which pictures differ, and folders that are no runs."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from typer.testing import CliRunner

from course.cli import app
from course.errors import CourseError
from course.manifest import load
from course.reporting.compare import compare


def picture(pixels: np.ndarray) -> str:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


GREY = np.full((10, 10, 3), 100, np.uint8)


def run(folder: Path, pictures=(GREY,), kind="lecture", **said) -> Path:
    """What a run leaves of the mini course's first topic."""
    outputs = [
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": picture(pixels)}} for pixels in pictures
    ]
    cell = {"cell_type": "code", "id": "drawn", "metadata": {}, "source": "show()", "outputs": outputs}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell | {"execution_count": 1}]}
    result = {
        "status": "passed",
        "error": None,
        "cpu_seconds": 60.0,
        "wall_seconds": 40.0,
        "peak_rss_bytes": 5e8,
        "metrics": {"total": 30.0, "other": 1.0},
        "versions": {"keras": "3.13.0"},
        "parameters": {},
    }
    path = folder / f"{kind}s" / "01_addition.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook))
    path.with_suffix(".json").write_text(json.dumps(result | said))
    return folder


def held(mini, tmp_path, before=None, after=None):
    folders = run(tmp_path / "a", **(before or {})), run(tmp_path / "b", **(after or {}))
    [found], page = compare(load(mini), *folders, "cpu")
    assert page == mini / "build" / "compare" / "index.html"
    return found, BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def test_two_runs_that_are_alike(mini, tmp_path):
    found, page = held(mini, tmp_path, after={"metrics": {"total": 30.0 * (1 + 1e-9), "other": 1.0}})
    assert (found.moved, found.pictures, found.metrics, found.drawn) == ([], [], 2, 1)
    assert found.summary == "01/lecture: 2 metrics alike, 1 pictures alike, time x 1.00, memory x 1.00"
    assert not page.find_all("section")


def test_what_moved_is_told_and_what_left_its_band_first(mini, tmp_path):
    after = {"metrics": {"other": 2.0, "total": 32.0, "new": 5.0}, "cpu_seconds": 90.0, "peak_rss_bytes": 1e9}
    found, page = held(mini, tmp_path, after=after | {"versions": {"keras": "3.15.0"}})
    assert [(moved.name, moved.before, moved.after, moved.left_band) for moved in found.moved] == [
        ("total", 30.0, 32.0, True),
        ("other", 1.0, 2.0, False),
        ("new", None, 5.0, False),
    ]
    assert found.ratios == {"time": 1.5, "memory": 2.0}
    words = page.get_text(" ", strip=True)
    assert "keras 3.13.0" in words and "keras 3.15.0" in words and "left its band" in words and "none → 5" in words


@pytest.mark.parametrize(
    ("changed", "share"),
    [
        (lambda pixels: pixels + 8, 0),  # eight of 255 levels are not seen
        (lambda pixels: pixels + 9, 1),
        (lambda pixels: np.concatenate([pixels[:5], pixels[5:] + 50]), 0.5),
        (lambda pixels: pixels[:5], 1),  # another size
    ],
)
def test_a_picture_differs_by_the_pixels_that_look_different(mini, tmp_path, changed, share):
    found, page = held(mini, tmp_path, after={"pictures": (changed(GREY),)})
    assert [pair.changed for pair in found.pictures] == ([share] if share else [])
    assert len(page.find_all("img")) == (2 if share else 0)


def test_a_picture_that_one_run_lacks(mini, tmp_path):
    found, page = held(mini, tmp_path, after={"pictures": (GREY, GREY)})
    assert [(pair.before, pair.changed) for pair in found.pictures] == [("", 1.0)]
    assert len(page.find_all("img")) == 1 and "no picture before" in page.get_text()


def test_a_notebook_that_passed_before_and_does_not_now_fails_the_command(mini, tmp_path):
    error = {"name": "ValueError", "value": "wrong axis"}
    before, after = run(tmp_path / "a"), run(tmp_path / "b", status="failed", error=error)
    run(tmp_path / "b", kind="solution")
    result = CliRunner().invoke(app, ["--root", str(mini), "compare", str(before), str(after)])
    assert result.exit_code == 1
    assert result.output.startswith("01/lecture: passed → failed; ")
    words = (mini / "build/compare/index.html").read_text(encoding="utf-8")
    assert "wrong axis" in words and "01/solution ran only after" in words
    assert CliRunner().invoke(app, ["--root", str(mini), "compare", str(after), str(before)]).exit_code == 0


def test_folders_without_runs_in_common_are_refused(mini, tmp_path):
    (tmp_path / "empty").mkdir()
    one = run(tmp_path / "a")
    with pytest.raises(CourseError, match=r"empty: expected runs of notebooks"):
        compare(load(mini), one, tmp_path / "empty", "cpu")
    with pytest.raises(CourseError, match="no notebook ran in both"):
        compare(load(mini), one, run(tmp_path / "b", kind="solution"), "cpu")
    (one / "lectures/01_addition.json").write_text("{")
    with pytest.raises(CourseError, match=r"01_addition\.json: expected the result of a run in JSON"):
        compare(load(mini), one, run(tmp_path / "c"), "cpu")
