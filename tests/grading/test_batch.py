"""A folder in, marks and pages out: what is kept, what an interruption leaves, what a person decides."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from course.errors import CourseError
from course.grading import batch as batches
from course.grading import command
from course.grading.batch import Batch
from course.grading.sandbox import Limits

LIMITS = Limits(cell_seconds=5)


@pytest.fixture
def folder(tmp_path, notebook, solved, answered):
    """Submissions of one lab: right, wrong, untouched, broken, and what lies about."""
    folder = tmp_path / "submissions"
    (folder / "group b" / ".ipynb_checkpoints").mkdir(parents=True)
    wrong = answered(solved, add="def add(a, b):\n    return a - b\n")
    for name, content in {
        "ada.ipynb": solved,
        "bob.ipynb": wrong,
        "=cmd().ipynb": notebook,
        "group b/cy.ipynb": solved,
        "group b/.ipynb_checkpoints/cy.ipynb": notebook,
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "broken.ipynb").write_bytes(b"{")
    (folder / "feedback.html").write_text("<html>")
    return folder


class Counting:
    """An executor that counts, and fails or interrupts where it is told to."""

    def __init__(self, inner, fail=(), interrupt=()):
        self.inner, self.fail, self.interrupt, self.jobs = inner, set(fail), set(interrupt), []

    def __call__(self, job):
        self.jobs.append(job.name)
        if job.name in self.fail:
            raise ValueError("this one is bad")
        if job.name in self.interrupt:
            raise CourseError("no more")
        return self.inner(job)

    def close(self):
        pass


@pytest.fixture
def run(manifest, lab, folder, tmp_path, boxes):
    def run(executor=boxes, jobs=2, **options):
        batch = Batch(manifest, [lab], tmp_path / "grades", limits=LIMITS, **{"pages": False, **options})
        tasks, others = batch.tasks(folder)
        outcomes = Counter()
        batch.run(tasks, executor, jobs, lambda task, what: outcomes.update([what]))
        batch.write(tasks)
        rows = list(csv.reader((tmp_path / "grades" / lab.stem / "grades.csv").open(encoding="utf-8")))
        return outcomes, {row[0]: dict(zip(rows[0], row)) for row in rows[1:]}, others

    return run


@pytest.mark.skipif(
    Path(__file__).is_relative_to(Path(tempfile.gettempdir()).resolve()),
    reason="a sandbox has a /tmp of its own, in which a course that lies below /tmp is not seen: no pages",
)
def test_a_folder_is_marked(run, tmp_path, lab):
    outcomes, table, others = run(pages=True)
    assert others == ["feedback.html"]
    assert {name: row["total"] for name, row in table.items()} == {
        "ada": "3",
        "bob": "1",
        "'=cmd()": "0",
        "group b/cy": "3",
        "broken": "0",
    }
    assert table["broken"]["flags"] == "unreadable" and table["ada"]["flags"] == ""
    assert outcomes["graded"] == 2 and outcomes["the same"] >= 1, (
        "ada and cy have the same answers: they are judged once"
    )
    page = next((tmp_path / "grades" / lab.stem / "feedback").glob("bob-*.html")).read_text(encoding="utf-8")
    assert "two and three make five" in page and "Your notebook, executed" in page and "AssertionError" in page
    summary = (tmp_path / "grades" / lab.stem / "summary.html").read_text(encoding="utf-8")
    assert "add-check (3)" in summary


def test_the_same_file_gets_the_same_marks_from_what_is_kept(run, boxes):
    first = run()
    again = Counting(boxes)
    outcomes, table, _ = run(again)
    assert again.jobs == [] and table == first[1] and outcomes["kept"] == 2
    fresh = Counting(boxes)
    assert run(fresh, fresh=True)[1] == first[1] and len(fresh.jobs) == 2


def test_one_bad_submission_never_stops_the_others_and_gets_no_mark(run, boxes):
    outcomes, table, _ = run(Counting(boxes, fail=["bob"]))
    assert table["bob"]["open"] == "add double" and "not graded" in table["bob"]["flags"]
    assert table["ada"]["total"] == "3" and outcomes["not graded"] == 1
    outcomes, table, _ = run()
    assert table["bob"]["total"] == "1", "and it is tried again the next time"


def test_an_interrupted_run_goes_on_where_it_was(run, boxes):
    with pytest.raises(CourseError, match="no more"):
        run(Counting(boxes, interrupt=["bob"]), jobs=1)
    rest = Counting(boxes)
    run(rest)
    assert rest.jobs == ["bob"]


def test_what_is_kept_and_half_written_is_judged_again(run, tmp_path, boxes):
    first = run()
    for path in (tmp_path / "grades").rglob("kept/*.json"):
        path.write_text(path.read_text()[:40])
    again = Counting(boxes)
    assert run(again)[1] == first[1] and len(again.jobs) == 2


def test_a_persons_decision_outlives_a_new_run(run, tmp_path, lab):
    run()
    path = tmp_path / "grades" / lab.stem / "overrides.csv"
    assert path.read_text() == "submission,item,points,reason\n"
    path.write_text("submission,item,points,reason\nbob,add,1.5,nearly\n'=cmd(),double,1,spoke to me\n")
    table = run(fresh=True)[1]
    assert table["bob"]["add"] == "1.5" and table["bob"]["total"] == "2.5" and table["'=cmd()"]["total"] == "1"
    assert "nearly" in path.read_text()
    path.write_text("submission,item,points,reason\nnobody,add,1,x\n")
    with pytest.raises(CourseError, match="line 2"):
        run()


def test_own_checks_count_and_make_new_verdicts(run, tmp_path, boxes):
    run()
    own = tmp_path / "own"
    own.mkdir()
    (own / "01_addition.py").write_text('# %% check="add" points=3\nassert add(20, 22) == 42\n', encoding="utf-8")
    counting = Counting(boxes)
    table = run(counting, own=own)[1]
    assert len(counting.jobs) == 2 and table["ada"]["total"] == "6" and table["bob"]["total"] == "1"


def test_a_submission_goes_to_the_lab_that_it_is_of(folder, manifest, lab):
    class Other:
        gaps = ()

    release = Batch(manifest, [lab], folder / "out", limits=LIMITS).releases[0]
    assert batches.assign(folder / "ada.ipynb", [Other, release]) is release


def test_the_command_says_what_it_needs(manifest, lab, tmp_path, monkeypatch):
    options = {"output": tmp_path / "out", "jobs": 1, "own": None, "name": "local", "scheduler": None, "boxed": True}
    options |= {"pages": False, "fresh": False, "cell_seconds": 5, "memory_gb": 2}
    monkeypatch.setattr(command.sandbox.shutil, "which", lambda name: None)
    with pytest.raises(CourseError, match="install bubblewrap"):
        command.grade(manifest, tmp_path, [lab], **options)
    monkeypatch.undo()
    if command.sandbox.works() is None:
        with pytest.raises(CourseError, match="no notebook"):
            command.grade(manifest, tmp_path, [lab], **options)
        with pytest.raises(CourseError, match="no such folder"):
            command.grade(manifest, tmp_path / "nowhere", [lab], **options)


def _course(*arguments, **options):
    command_line = [sys.executable, "-m", "course", *map(str, arguments)]
    return subprocess.run(command_line, capture_output=True, text=True, timeout=600, **options)


def test_without_a_sandbox_only_when_it_is_spelled_out_and_with_a_warning(mini, folder, tmp_path):
    done = _course("grade", folder, "--lab", "01", "--root", mini, "-o", tmp_path / "out", "--no-sandbox", "--no-pages")
    assert done.returncode == 0, done.stderr
    assert "with your rights" in done.stderr
    table = (tmp_path / "out" / "01_addition" / "grades.csv").read_text(encoding="utf-8")
    assert "\nada,2,1,0,3,4,," in table and "\nbob,0,1,0,1,4,," in table


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_grades_as_root_does(mini, folder, as_user):
    """The other tests run as root where this one can run at all; here a user without any right does the same."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="course-grading-test-") as name:
        place = Path(name)
        shutil.copytree(mini, place / "mini")
        shutil.copytree(folder, place / "submissions")
        grade = [
            sys.executable,
            "-m",
            "course",
            "grade",
            place / "submissions",
            "--lab",
            "01",
            "--root",
            place / "mini",
        ]
        done = as_user(place, [*grade, "-o", place / "home", "--no-pages"])
        assert done.returncode == 0, done.stderr
        table = place / "home" / "01_addition" / "grades.csv"
        assert "\nada,2,1,0,3,4,," in table.read_text(encoding="utf-8") and table.stat().st_uid == 61183
