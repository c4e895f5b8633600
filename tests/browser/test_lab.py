"""A student's first hour in a real browser: a lab from `course start`, its first gap, and the sliders of lectures."""

import json
import re

import pytest

from course import manifest
from course.authoring.build import start
from course.authoring.sources import MARKER, read_course_source, read_wrong
from course.notebook import read_notebook, typed_cells
from course.proving.test import prepare

COURSE = manifest.load(manifest.find_root(None))


def test_first_gap_of_a_lab_from_start_to_saved_answer(lab, page, opened):
    [solution] = COURSE.select(["01"], ["solution"])
    [handed_out] = manifest.load(lab.folder).select(["01"], ["lab"])
    path, _ = start(handed_out)
    cells = typed_cells(read_notebook(path))
    gap = next(cell for cell in cells if cell.role == "gap")
    check = next(cell for cell in cells if cell.role == "check" and cell.name == gap.name)
    wrong = next(answer.source for answer in read_wrong(solution) if answer.gap == gap.name)
    right = next(cell for cell in read_course_source(solution).cells if cell["metadata"].get("gap") == gap.name)
    right = "\n".join(line for line in right["source"].split("\n") if not MARKER.fullmatch(line))
    between = [cell.index for cell in cells[gap.index : check.index] if cell.type == "code"]

    notebook = opened(path.relative_to(lab.folder).as_posix())
    assert notebook.cells.count() == len(cells)
    notebook.select(gap.index)
    notebook.menu("Run", "Run All Above Selected Cell")
    notebook.finished(max(cell.index for cell in cells[: gap.index] if cell.type == "code"))
    for cell in cells[: gap.index]:
        assert "Error" not in notebook.output(cell.index), f"cell {cell.index + 1} before the first gap fails"

    def checked():
        """What the check says, after the gap and all that stands between them ran without a word."""
        for index in between:
            assert notebook.run(index) == ""
        return notebook.run(check.index)

    assert "NotImplementedError: return the number of positions" in checked()
    notebook.write(gap.index, wrong)
    said = re.search(r"AssertionError: (.*)", checked())
    assert said and len(said[1].split()) > 4, "the check says in words what is wrong"
    notebook.write(gap.index, right)
    passed = checked()
    assert passed and "Error" not in passed, f"a check that passes says so: {passed}"

    notebook.save()
    kept = {cell.get("id"): "".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}
    assert kept[gap.id] == right
    again = opened(path.relative_to(lab.folder).as_posix())
    assert again.text(gap.index).split() == right.split()
    assert again.output(check.index) == passed


@pytest.mark.parametrize("topic", ["01", "08", "12"])
def test_the_sliders_of_a_lecture_draw_anew(topic, lab, opened):
    """Runs the lecture with its smoke parameters up to the first cell with sliders, and moves one."""
    [lecture] = COURSE.select([topic], ["lecture"])
    path = lab.folder / f"{lecture.stem}-sliders.ipynb"
    prepare(lecture, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in content["cells"]]
    place = next(index for index, source in enumerate(sources) if re.search(r"^plots\.explore", source, re.MULTILINE))
    path.write_text(json.dumps(content | {"cells": content["cells"][: place + 1]}), encoding="utf-8")

    notebook = opened(path.name)
    notebook.menu("Run", "Run All Cells")
    cell = notebook.cells.nth(place)
    slider, picture = cell.get_by_role("slider").first, cell.locator(".jp-OutputArea img")
    slider.or_(notebook.failed()).first.wait_for()
    assert not notebook.failed().count(), notebook.failed().inner_text()
    before = picture.get_attribute("src")
    value = float(slider.get_attribute("aria-valuenow"))
    slider.focus()
    slider.press("ArrowRight")
    notebook.redrawn(picture, before)
    assert float(slider.get_attribute("aria-valuenow")) == value + 1
    assert "Error" not in notebook.output(place)
