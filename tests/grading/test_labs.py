"""Every lab of the course through the grader: the solutions' marks are full, an untouched lab's zero, and a wrong
answer costs its checks. The first two are always tried: a lab that is changed may ask for what the grader cannot carry.

What a wrong answer costs is computed here by other means: the solution's cells in one plain process, without sandbox or
wire, with the wrong answer on trial at its gap and the checks run one by one.
"""

import ast
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from course.authoring.sources import read_wrong
from course.grading import score
from course.grading.batch import Job
from course.grading.bench import UTILITIES
from course.grading.rebuild import Submission
from course.grading.release import Release
from course.grading.sandbox import Limits
from course.grading.withholding import withheld
from course.manifest import load

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = load(ROOT)
LABS = MANIFEST.notebooks(("lab",))
LIMITS = Limits(cell_seconds=120, wall_seconds=1800)
SUBMISSIONS = 10

# Runs in a process of its own: argv[1] is a file with the cells and the trials; prints which checks of each trial fail.
PLAIN = """
import contextlib, io, json, sys
import matplotlib
matplotlib.use("agg")
told = json.load(open(sys.argv[1]))
names, failed = {"__name__": "__main__", "display": lambda *a, **k: None}, {}
def run(source):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(source, "<cell>", "exec"), names)
for index, cell in enumerate(told["cells"]):
    for trial in told["trials"]:
        if trial["index"] != index:
            continue
        kept, failed[trial["key"]] = dict(names), []
        try:
            run(trial["source"])
        except Exception:
            pass
        for later in told["cells"][index + 1 : trial["last"] + 1]:
            try:
                if later["kind"] == "given" or later["gap"] == trial["gap"]:
                    run(later["source"])
            except Exception as error:
                if later["kind"] == "check":
                    failed[trial["key"]].append(later["id"])
        names.clear()
        names.update(kept)
    run(cell["source"])
print(json.dumps(failed))
"""


def plain_failures(release, wrongs, folder):
    """For each wrong answer, by its number, the ids of its gap's checks that fail."""
    cells = []
    for cell in release.cells:
        if cell.type == "code":
            kind = cell.role if cell.role in ("gap", "check") else "given"
            source = cell.source
            if cell.role == "parameters":
                source += "".join(f"\n{name} = {value!r}" for name, value in release.parameters.items())
            cells.append({"kind": kind, "gap": cell.name, "id": cell.id, "source": source})
    trials = []
    for number, wrong in enumerate(wrongs):
        index = next(i for i, cell in enumerate(cells) if cell["kind"] == "gap" and cell["gap"] == wrong.gap)
        last = max(i for i, cell in enumerate(cells) if cell["kind"] == "check" and cell["gap"] == wrong.gap)
        trials.append({"key": number, "index": index, "last": last, "gap": wrong.gap, "source": wrong.source})
    path = folder / "plain.json"
    path.write_text(json.dumps({"cells": cells, "trials": trials}), encoding="utf-8")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, path], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {int(number): set(ids) for number, ids in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.fixture(params=LABS, ids=lambda lab: lab.stem)
def release(request):
    return Release(MANIFEST, request.param)


@pytest.fixture
def marks_of(release, boxes):
    taken = withheld(release, UTILITIES)

    def marks_of(answers):
        submission = Submission(release.notebook.path, "x", answers=answers)
        verdict = boxes(Job("x", release.name, release.program(answers), None, {}, taken, LIMITS))["verdict"]
        assert verdict["problem"] is None, verdict
        return score.mark(submission, release, verdict, {})

    return marks_of


def solution(release):
    return {gap.name: gap.answer for gap in release.gaps}


def test_an_honest_solution_gets_full_marks_and_an_untouched_lab_none(release, marks_of):
    marks = marks_of(solution(release))
    failed = {check.id: check.text for item in marks.items for check in item.checks if check.status != "passed"}
    assert failed == {}
    assert sum(item.reached for item in marks.items if item.kind == "gap") == sum(
        release.worth(gap.name) for gap in release.gaps
    )
    assert marks_of({}).total == 0


def partly_right(release, folder):
    """(answers, checks that fail) of ten submissions with wrong answers to two gaps in three."""
    taken = {name for names in withheld(release, UTILITIES).values() for name in names}
    wrongs = read_wrong(release.notebook)
    failing = plain_failures(release, wrongs, folder)
    given = [
        node
        for cell in release.cells
        if cell.type == "code" and cell.role == "code"
        for node in ast.parse(cell.source).body
    ]
    loaded = {alias.asname or alias.name for node in given if isinstance(node, ast.ImportFrom) for alias in node.names}

    def calls(tree, known=()):
        """Whether code calls a function of the course that is taken away, itself or through a given function."""
        nodes = list(ast.walk(tree))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        used = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)} | names
        own = {name.rpartition(".")[2] for name in used if name.partition(".")[0] in loaded}
        through = [n for n in given if isinstance(n, ast.FunctionDef) and n not in known and n.name in names]
        return bool(own & taken) or any(calls(node, (*known, *through)) for node in through)

    by_gap = {gap.name: [n for n, wrong in enumerate(wrongs) if wrong.gap == gap.name] for gap in release.gaps}
    for number in range(SUBMISSIONS):
        answers, lost = solution(release), set()
        for place, (gap, choices) in enumerate(by_gap.items()):
            if not choices or (number + place) % 3 == 0:
                continue
            chosen = choices[(number + place) % len(choices)]
            answers[gap] = wrongs[chosen].source
            all_of_gap = {check.id for check in release.checks_of(gap)}
            lost |= all_of_gap if calls(ast.parse(wrongs[chosen].source)) else failing[chosen]
        yield answers, lost


@pytest.mark.grading
def test_partly_right_submissions_get_exactly_what_is_right(release, marks_of, tmp_path):
    for number, (answers, lost) in enumerate(partly_right(release, tmp_path)):
        marks = marks_of(answers)
        found = {check.id for item in marks.items for check in item.checks if check.status != "passed"}
        assert found == lost, f"submission {number}"
        expected = sum((check.points for check in release.checks if check.id not in lost), Fraction(0))
        assert marks.total == expected
