"""A submission is data: out of whatever file came in, the answers are taken, and nothing else.

Every other cell comes from the release. What is missing, doubled, moved, changed or unknown is told per gap, so that
the student reads why an answer counts or does not. Nothing of a submission is executed here, and no library reads it
but Python's own JSON.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course.grading import plan
from course.grading.release import Gap, Release, plan_answer
from course.notebook import python_tree

LARGEST = 100 << 20  # bytes of a file; outputs and attachments are most of such
MOST_CELLS = 5000
LONGEST_ANSWER = 200_000  # characters
_TAG = re.compile(r"/course@(v[\w.]+)|/course/blob/(v[\w.]+)/")


@dataclass
class Submission:
    """What a file holds, as far as it counts.

    `problem` says why nothing in it can be graded; None when something can. `notes` are about the whole, `gap_notes`
    about one gap.
    """

    path: Path
    name: str
    digest: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    gap_notes: dict[str, list[str]] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)  # gaps whose stub is still there
    problem: str | None = None
    matched: int = 0  # gaps found by their ids

    def say(self, gap: str, text: str) -> None:
        self.gap_notes.setdefault(gap, []).append(text)


def read(path: Path, name: str, release: Release, others: Mapping[str, Sequence[str]] | None = None) -> Submission:
    """The answers in a file.

    Args:
        name: what the submission is called.
        others: for each other lab its gaps, to tell another lab's notebook from an empty one.
    """
    submission = Submission(path, name)
    cells = _cells(submission)
    if cells is not None:
        _take(submission, cells, release, others or {})
    return submission


def gaps_named(path: Path) -> set[str]:
    """Ids of answers in a file, to see which lab it belongs to; none when it cannot be read."""
    cells = _cells(Submission(path, path.name))
    return {ident for cell in cells or [] for ident in _ids(cell)}


def _cells(submission: Submission) -> list[dict[str, Any]] | None:
    data = _content(submission)
    if data is None:
        return None
    submission.digest = hashlib.sha256(data).hexdigest()
    if not data.strip():
        submission.problem = "the file is empty"
        return None
    if data[:2] in (b"PK", b"\x1f\x8b"):
        submission.problem = "an archive, not a notebook: hand in the .ipynb itself"
        return None
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        submission.problem = "not a notebook: the file is not UTF-8 text"
        return None
    except RecursionError:
        submission.problem = "not a notebook: JSON nested deeper than any notebook"
        return None
    except (ValueError, MemoryError) as error:
        submission.problem = (
            f"not a notebook: {' '.join(str(error).split())[:120]} (JSON is expected; was the download cut off?)"
        )
        return None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        old = isinstance(notebook, dict) and "worksheets" in notebook
        submission.problem = (
            "a notebook of nbformat 3: open and save it in a current Jupyter"
            if old
            else "not a notebook: JSON without cells"
        )
        return None
    cells = []
    for number, cell in enumerate(notebook["cells"][:MOST_CELLS]):
        if not isinstance(cell, dict) or not isinstance(cell.get("source", ""), (str, list)):
            submission.notes.append(f"cell {number + 1} is no cell of a notebook and was left out")
            continue
        source = cell.get("source", "")
        text = source if isinstance(source, str) else "".join(part for part in source if isinstance(part, str))
        metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
        text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
        cells.append({"id": cell.get("id"), "type": cell.get("cell_type"), "metadata": metadata, "source": text})
    if len(notebook["cells"]) > MOST_CELLS:
        submission.notes.append(f"only the first {MOST_CELLS} cells were read")
    return cells


def _content(submission: Submission) -> bytes | None:
    """The bytes of the file; a link, a pipe or a device is never opened."""
    try:
        found = os.lstat(submission.path)
        if stat.S_ISLNK(found.st_mode):
            submission.problem = "a link to another file, which is not followed: hand in the notebook itself"
        elif not stat.S_ISREG(found.st_mode):
            submission.problem = "not a file"
        elif found.st_size > LARGEST:
            submission.problem = (
                f"{found.st_size >> 20} MB, at most {LARGEST >> 20} are read: clear the outputs and hand it in again"
            )
        else:
            number = os.open(submission.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(number, "rb") as file:
                return file.read(LARGEST + 1)
    except OSError as error:
        submission.problem = f"cannot be read: {error.strerror}"
    return None


def _ids(cell: Mapping[str, Any]) -> list[str]:
    """What a cell says it is, the surest first."""
    metadata = cell["metadata"]
    grader = metadata.get("nbgrader")
    told = [
        grader.get("grade_id") if isinstance(grader, dict) else None,
        metadata.get("gap"),
        metadata.get("question"),
        cell["id"],
    ]
    return [ident for ident in told if isinstance(ident, str)]


def _take(
    submission: Submission, cells: list[dict[str, Any]], release: Release, others: Mapping[str, Sequence[str]]
) -> None:
    gaps = {gap.name: gap for gap in release.gaps}
    found: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        ident = next((ident for ident in _ids(cell) if ident in gaps), None)
        if ident is not None and not _is_check(cell, release):
            found.setdefault(ident, []).append(number)
    submission.matched = len(found)
    used = {number for numbers in found.values() for number in numbers}
    _other_lab(submission, cells, release, others)
    if submission.problem is not None:
        return
    known_sources = {cell.source.strip() for cell in release.lab_cells} | {
        check.source.strip() for check in release.checks
    }
    free = [
        number
        for number, cell in enumerate(cells)
        if cell["type"] == "code" and number not in used and cell["source"].strip() not in known_sources
        and not _is_check(cell, release)
    ]  # fmt: skip
    places: list[int] = []
    for gap in release.gaps:
        place = _place(submission, gap, cells, found.get(gap.name, []), free)
        if place is None:
            continue
        places.append(place)
        used.add(place)
        _answer(submission, gap, cells[place]["source"])
    if places != sorted(places):
        submission.notes.append("cells stand in another order than in the lab: the lab's order was used")
    _compare(submission, cells, release, used, known_sources)
    by_question = {question.id: question for question in release.questions} | {q.name: q for q in release.questions}
    for cell in cells:
        question = next((by_question[ident] for ident in _ids(cell) if ident in by_question), None)
        if question is not None and cell["source"].strip() != question.stub.strip():
            submission.questions[question.name] = cell["source"][:LONGEST_ANSWER]


def _is_check(cell: Mapping[str, Any], release: Release) -> bool:
    """A check's own cell, whose id is the check's; a task that was copied keeps the id of a check and is none."""
    return any(ident in {check.id for check in release.checks} for ident in _ids(cell))


def _other_lab(
    submission: Submission, cells: list[dict[str, Any]], release: Release, others: Mapping[str, Sequence[str]]
) -> None:
    if submission.matched:
        return
    ids = {ident for cell in cells for ident in _ids(cell)}
    best = max(others, key=lambda name: len(ids & set(others[name])), default=None)
    if best is not None and len(ids & set(others[best])) >= 2:
        submission.problem = f"this is the notebook of lab {best}, not of {release.name}"


def _place(
    submission: Submission, gap: Gap, cells: list[dict[str, Any]], numbers: list[int], free: list[int]
) -> int | None:
    """The cell that holds the answer to a gap."""
    code = [number for number in numbers if cells[number]["type"] == "code"]
    if len(code) < len(numbers):
        submission.say(gap.name, "the answer's cell is no code cell any more: text is not run")
    written = [number for number in code if cells[number]["source"].strip() != gap.stub.strip()]
    if len(code) > 1:
        words = "the last one that was changed" if written else "the first one"
        submission.say(gap.name, f"{len(code)} cells say that they are the answer: {words} was used")
    if written:
        return written[-1]
    retyped = [number for number in free if _binds(cells[number]["source"], gap)]
    if retyped:
        place = retyped[-1]
        free.remove(place)
        what = "left as it was" if code else "missing"
        submission.say(
            gap.name, f"the answer's own cell is {what}: cell {place + 1}, which defines the same names, was used"
        )
        return place
    if code:
        submission.untouched.append(gap.name)
        return None
    submission.say(gap.name, "the answer's cell is missing, and no other cell defines what it asks for")
    return None


def _binds(source: str, gap: Gap) -> bool:
    try:
        return set(gap.defines) <= plan.bound(plan.statements(source))
    except SyntaxError:
        return False


def _answer(submission: Submission, gap: Gap, source: str) -> None:
    if len(source) > LONGEST_ANSWER:
        submission.say(
            gap.name, f"the cell has {len(source):,} characters, at most {LONGEST_ANSWER:,} are read: it was not run"
        )
        return
    submission.answers[gap.name] = source
    cleaned = plan_answer(source)
    try:
        tree = python_tree(cleaned)
    except SyntaxError as error:
        submission.say(
            gap.name, f"the cell is no Python: {error.msg}" + (f" (line {error.lineno})" if error.lineno else "")
        )
        return
    if cleaned != source:
        submission.say(gap.name, "lines for IPython (%..., !...) are left out when the answer is judged")
    if any(isinstance(node, ast.Name) and node.id == "input" for node in ast.walk(tree)):
        submission.say(gap.name, "input() has nobody to ask here")
    missing = [name for name in gap.defines if name not in plan.bound(tree.body)]
    if missing:
        submission.say(gap.name, f"the cell does not define {', '.join(missing)}")


def _compare(
    submission: Submission, cells: list[dict[str, Any]], release: Release, used: set[int], known_sources: set[str]
) -> None:
    """What differs from the release beside the answers: told, and without effect."""
    by_id: dict[str, dict[str, Any]] = {}
    for cell in cells:
        for ident in _ids(cell):
            by_id.setdefault(ident, cell)
    sources = {cell["source"].strip() for cell in cells}
    changed = [check for check in release.lab_cells if check.role == "check" and check.source.strip() not in sources]
    if changed:
        there = [check.id for check in changed if check.id in by_id]
        gone = [check.id for check in changed if check.id not in by_id]
        if there:
            submission.notes.append(f"changed checks, the lab's own were used: {', '.join(there)}")
        if gone:
            submission.notes.append(f"missing checks, the lab's own were used: {', '.join(gone)}")
    given = [c for c in release.lab_cells if c.type == "code" and c.role not in ("gap", "check", "parameters", "setup")]
    missing = sum(cell.source.strip() not in sources for cell in given)
    if missing:
        submission.notes.append(
            f"{missing} of the lab's other cells were changed or are missing: the lab's own were used"
        )
    extra = [
        number
        for number, cell in enumerate(cells)
        if cell["type"] == "code" and number not in used and cell["source"].strip()
        and cell["source"].strip() not in known_sources
        and not any(ident in {c.id for c in release.lab_cells} for ident in _ids(cell))
    ]  # fmt: skip
    if extra:
        numbers = ", ".join(str(number + 1) for number in extra[:8])
        submission.notes.append(
            f"cells of your own were not run ({numbers}): what an answer needs must stand in the answer's own cell"
        )
    tags = {first or second for cell in cells[:3] for first, second in _TAG.findall(cell["source"])}
    if tags and release.manifest.tag not in tags:
        submission.notes.append(f"made from release {', '.join(sorted(tags))}: graded by {release.manifest.tag}")


def rebuilt(release: Release, answers: Mapping[str, str]) -> dict[str, Any]:
    """The notebook that the feedback shows: the lab as handed out, with the answers in it."""
    notebook = json.loads(json.dumps(release.lab_notebook))
    answer_of = {gap.index: answers[gap.name] for gap in release.gaps if gap.name in answers}
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        if index in answer_of:
            cell["source"] = answer_of[index]
    return notebook
