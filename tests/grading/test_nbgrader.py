"""nbgrader releases a lab from its solution, grades submissions itself, and comes to the marks of `course grade`.

nbgrader goes on with a student's own names after a mistake, where `course grade` goes on with the solution's. So the
marks are compared where no later gap stands on a wrong earlier one.
"""

import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from course.grading.batch import Batch
from course.grading.release import Release
from course.grading.sandbox import Limits
from course.manifest import Notebook, load

pytest.importorskip("nbgrader", reason="nbgrader is not installed")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def autograded(tmp_path, monkeypatch):
    """Function of a lab and submissions by student: what nbgrader hands out, and its points by student and cell."""
    from nbgrader.apps import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    def autograded(lab, submissions):
        solution = Notebook(lab.topic, "solution", lab.root)
        place = tmp_path / "nbgrader"
        config = Config()
        config.CourseDirectory.root = str(place)
        config.Exchange.root = config.Exchange.cache = str(tmp_path / "exchange")
        config.ExecutePreprocessor.timeout = 300
        for folder in [f"source/{lab.stem}", *(f"submitted/{name}/{lab.stem}" for name in submissions)]:
            (place / folder).mkdir(parents=True)
        (place / "source" / lab.stem / lab.path.name).write_bytes(solution.path.read_bytes())
        for name, notebook in submissions.items():
            path = place / "submitted" / name / lab.stem / lab.path.name
            path.write_text(json.dumps(notebook), encoding="utf-8")
        # nbgrader starts the kernel named python3: this environment's, which finds `utils`.
        monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
        monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        api = NbGraderAPI(CourseDirectory(config=config), config=config)
        made = api.generate_assignment(lab.stem)
        assert made["success"], made["log"]
        release = json.loads((place / "release" / lab.stem / lab.path.name).read_text(encoding="utf-8"))
        points = {}
        for name in submissions:
            graded = api.autograde(lab.stem, name, force=True)
            assert graded["success"], graded["log"]
            with api.gradebook as book:
                found = book.find_submission_notebook(lab.path.stem, lab.stem, name)
                points[name] = {grade.name: grade.score for grade in found.grades}
        return release, points

    return autograded


@pytest.fixture
def ours(tmp_path, boxes):
    """Function of a lab and submissions: points by student and gap, as `course grade` writes them."""

    def ours(manifest, lab, submissions):
        folder = tmp_path / "submissions"
        folder.mkdir()
        for name, notebook in submissions.items():
            (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        batch = Batch(manifest, [lab], tmp_path / "grades", limits=Limits(cell_seconds=60), pages=False)
        tasks, _ = batch.tasks(folder)
        batch.run(tasks, boxes, 2)
        batch.write(tasks)
        with (tmp_path / "grades" / lab.stem / "grades.csv").open(encoding="utf-8") as file:
            return {row["submission"]: row for row in csv.DictReader(file)}

    return ours


def same_marks(lab, manifest, autograded, ours, submissions):
    """Hold what the two hand out, and their marks, against each other; the points that both gave, by student."""
    release = Release(manifest, lab)
    handed_out, theirs = autograded(lab, submissions)
    rows = ours(manifest, lab, submissions)
    given = {cell["id"]: cell for cell in json.loads(lab.path.read_text(encoding="utf-8"))["cells"]}
    checks = [cell for cell in handed_out["cells"] if "check" in cell["metadata"]]
    assert [cell["id"] for cell in checks] == [check.id for check in release.checks]
    assert all(cell["source"] == given[cell["id"]]["source"] for cell in checks)
    assert "SOLUTION" not in json.dumps(handed_out)
    totals = {}
    for name in submissions:
        by_gap = Counter()
        for check in release.checks:
            by_gap[check.gap] += theirs[name][check.id]
        assert {gap.name: float(rows[name][gap.name]) for gap in release.gaps} == dict(by_gap), name
        totals[name] = sum(by_gap.values())
    return totals


def test_nbgrader_gives_the_same_marks(mini, manifest, lab, notebook, solved, answered, autograded, ours):
    submissions = {
        "right": solved,
        "untouched": notebook,
        "half": answered(solved, add="def add(a, b):\n    return 5\n", double="def double(a):\n    return a + a\n"),
    }
    totals = same_marks(lab, manifest, autograded, ours, submissions)
    assert totals == {"right": 3, "untouched": 0, "half": 1}


@pytest.mark.grading
def test_nbgrader_gives_the_same_marks_in_lab_01(answered, autograded, ours):
    manifest = load(ROOT)
    lab = manifest.select(["01"], ("lab",))[0]
    release = Release(manifest, lab)
    notebook = json.loads(lab.path.read_text(encoding="utf-8"))
    solved = answered(notebook, **{gap.name: gap.answer for gap in release.gaps})
    last = release.gaps[-1]
    submissions = {
        "right": solved,
        "untouched": notebook,
        "last": answered(solved, **{last.name: last.stub}),
        "first alone": answered(notebook, **{release.gaps[0].name: release.gaps[0].answer}),
    }
    totals = same_marks(lab, manifest, autograded, ours, submissions)
    points = float(sum(release.worth(gap.name) for gap in release.gaps))
    worth = {gap.name: float(release.worth(gap.name)) for gap in release.gaps}
    assert totals == {
        "right": points,
        "untouched": 0,
        "last": points - worth[last.name],
        "first alone": worth[release.gaps[0].name],
    }
