"""Pages for students and for the instructor, and the tables. What a submission says is text in all of them, never
markup or a formula.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import json
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import jinja2

from course.execution.client import plain
from course.grading.rebuild import Submission, rebuilt
from course.grading.release import Release
from course.grading.score import Marks, shown
from course.grading.similarity import Pair

WORDS = {"passed": "holds", "failed": "does not hold", "hand": "for a person", "ungraded": "not graded"}
_FORMULA = re.compile(r"^[\s]*[=+\-@\t\r]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PICTURES = {"image/png": b"\x89PNG\r\n", "image/jpeg": b"\xff\xd8"}
LONGEST = 20_000  # characters of one output
_STEPS = 10


@cache
def _pages() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("course.grading"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["points"] = shown
    return environment


def slug(name: str) -> str:
    """A file name for a submission of any name: readable, short, and no two alike."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "submission"
    return f"{readable}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def printable(name: str) -> str:
    """A name on one line: what cannot be printed is written out."""
    readable = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in readable)


def student_page(release: Release, submission: Submission, marks: Marks, executed: Mapping[str, Any] | None) -> str:
    """The page of one student: their code, its outputs, which check failed and its words. No check's hidden part is in
    it.
    """
    cells = _cells(release, submission, executed)
    stopped = ""
    error = (executed or {}).get("error")
    if isinstance(error, dict) and (executed or {}).get("status") != "passed":
        stopped = f"The execution ended early: {str(error.get('name'))[:100]}: {str(error.get('value'))[:500]}"
    text = (
        _pages()
        .get_template("feedback.html")
        .render(
            title=release.notebook.title,
            marks=marks,
            sources={**submission.answers, **submission.questions},
            words=WORDS,
            cells=cells,
            stopped=stopped,
        )
    )
    return _clean(text)


def _cells(release: Release, submission: Submission, executed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    outputs = (executed or {}).get("cells")
    if not isinstance(outputs, list):
        return []
    found = []
    notebook = rebuilt(release, submission.answers)
    gaps = {gap.index: gap.name for gap in release.gaps}
    for number, (cell, made) in enumerate(zip(notebook["cells"], outputs)):
        shown_outputs = [one for one in map(_output, made if isinstance(made, list) else []) if one is not None]
        if cell["cell_type"] == "code" and (shown_outputs or number in gaps):
            found.append(
                {"number": number + 1, "source": cell["source"], "outputs": shown_outputs, "gap": gaps.get(number)}
            )
    return found


def _output(told: Any) -> dict[str, str] | None:
    """An output from the sandbox, believed in nothing: text is cut, a picture must be one."""
    if not isinstance(told, dict) or not isinstance(told.get("text"), str):
        return None
    kind, text = told.get("kind"), told["text"]
    if kind in _PICTURES:
        try:
            data = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            return None
        return {"kind": kind, "text": base64.b64encode(data).decode()} if data.startswith(_PICTURES[kind]) else None
    text = plain(text)
    if len(text) > LONGEST:
        text = text[:LONGEST] + "\n[the rest is cut off]"
    return {"kind": "error" if kind == "error" else "text", "text": text}


def summary_page(release: Release, marks: Sequence[Marks], pairs: Sequence[Pair]) -> str:
    """The instructor's page of one lab."""
    totals = [float(one.total) for one in marks]
    possible = release.total
    histogram = _histogram(totals, float(possible))
    most = max((count for _, count in histogram), default=1) or 1
    text = (
        _pages()
        .get_template("summary.html")
        .render(
            title=release.notebook.title,
            marks=marks,
            possible=possible,
            mean=f"{statistics.fmean(totals):.1f}" if totals else "-",
            median=f"{statistics.median(totals):.1f}" if totals else "-",
            open=sum(bool(one.waiting) for one in marks),
            histogram=[(label, count, round(24 * count / most, 2)) for label, count in histogram],
            gaps=[_gap_row(release, gap.name, marks) for gap in release.gaps],
            pages={one.name: f"feedback/{slug(one.name)}.html" for one in marks},
            pairs=pairs,
        )
    )
    return _clean(text)


def _histogram(totals: Sequence[float], possible: float) -> list[tuple[str, int]]:
    width = possible / _STEPS if possible else 1
    counts = Counter(min(int(total / width), _STEPS - 1) for total in totals)
    return [(f"{step * width:.3g} to {(step + 1) * width:.3g}", counts[step]) for step in range(_STEPS)]


def _gap_row(release: Release, name: str, marks: Sequence[Marks]) -> dict[str, Any]:
    items = [item for one in marks for item in one.items if item.name == name and item.kind == "gap"]
    worth = release.worth(name)
    known = [item.reached for item in items if item.reached is not None]
    failing = Counter(check.id for item in items for check in item.checks if check.status != "passed")
    share = float(sum(known, Fraction(0)) / (worth * len(known))) if known and worth else 0.0
    worst = failing.most_common(1)
    return {
        "name": name,
        "points": worth,
        "full": sum(reached == worth for reached in known),
        "share": f"{share:.0%}",
        "worst": f"{worst[0][0]} ({worst[0][1]})" if worst else "",
    }


def grades_csv(release: Release, marks: Sequence[Marks]) -> str:
    """One row a submission: name, each gap and question, total, of how many, what is open, flags. None is a formula."""
    names = [gap.name for gap in release.gaps] + [question.name for question in release.questions]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["submission", *names, "total", "of", "open", "flags"])
    for one in marks:
        by_name = {item.name: item for item in one.items}
        row = [one.name, *(shown(by_name[name].reached) for name in names), shown(one.total), shown(one.possible)]
        writer.writerow([_harmless(cell) for cell in [*row, " ".join(one.waiting), "; ".join(one.flags)]])
    return file.getvalue()


def _harmless(cell: str) -> str:
    cell = printable(cell)
    return "'" + cell if _FORMULA.match(cell) else cell


def grades_json(release: Release, marks: Sequence[Marks], pairs: Sequence[Pair]) -> str:
    """Everything that is known, with points as exact texts (`3/2`)."""
    told = {
        "lab": release.name,
        "tag": release.manifest.tag,
        "points": str(release.total),
        "submissions": [
            {
                "submission": printable(one.name),
                "total": str(one.total),
                "open": one.waiting,
                "flags": one.flags,
                "notes": one.notes,
                "problem": one.problem,
                "items": [
                    {
                        "name": item.name,
                        "kind": item.kind,
                        "points": str(item.points),
                        "reached": None if item.reached is None else str(item.reached),
                        "decided": item.decided,
                        "notes": item.notes,
                        "checks": [
                            {"id": check.id, "points": str(check.points), "status": check.status, "text": check.text}
                            for check in item.checks
                        ],
                    }
                    for item in one.items
                ],
            }
            for one in marks
        ],
        "similar": [
            {
                "gap": pair.gap,
                "first": printable(pair.first),
                "second": printable(pair.second),
                "alike": round(pair.alike, 3),
            }
            for pair in pairs
        ],
    }
    return json.dumps(told, indent=1, ensure_ascii=True) + "\n"


def _clean(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.encode("utf-8", "replace").decode("utf-8"))
