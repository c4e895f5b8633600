"""From verdicts to marks: exact fractions, partial credit per check, what waits for a person, and what a person has
decided.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.grading.rebuild import Submission
from course.grading.release import Release

HEADING = ("submission", "item", "points", "reason")


@dataclass
class CheckMark:
    id: str
    points: Fraction
    reached: Fraction
    status: str  # passed, failed, hand, ungraded
    text: str
    own: bool = False


@dataclass
class Item:
    """A gap or a question. `reached` is None where a person must decide; `decided` holds the reason of one who has."""

    name: str
    kind: str  # gap or question
    points: Fraction
    reached: Fraction | None
    checks: list[CheckMark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    decided: str | None = None


@dataclass
class Marks:
    """What one submission gets. `total` counts what is known; `waiting` names what a person must still look at."""

    name: str
    lab: str
    items: list[Item]
    flags: list[str]
    notes: list[str]
    problem: str | None
    cost: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> Fraction:
        return sum((item.reached for item in self.items if item.reached is not None), Fraction(0))

    @property
    def possible(self) -> Fraction:
        return sum((item.points for item in self.items), Fraction(0))

    @property
    def waiting(self) -> list[str]:
        return [item.name for item in self.items if item.reached is None]


@dataclass(frozen=True)
class Override:
    points: Fraction
    reason: str


def mark(
    submission: Submission, release: Release, verdict: Mapping[str, Any] | None, overrides: Mapping[str, Override]
) -> Marks:
    """The marks of a submission.

    Args:
        verdict: what the judge found; None when there was nothing to judge.
        overrides: points that a person has set, by item.
    """
    checks = (verdict or {}).get("checks", {})
    broken = (verdict or {}).get("problem")
    flags: list[str] = []
    items: list[Item] = []
    for gap in release.gaps:
        marks = []
        for check in release.checks_of(gap.name):
            found = checks.get(check.id)
            if submission.problem is not None or (verdict is None and broken is None):
                found = {"status": "failed", "text": submission.problem or "nothing was handed in for this gap"}
            elif found is None:
                found = {"status": "ungraded", "text": "not graded: the grader could not finish"}
            passed = found["status"] == "passed"
            text = found["text"] if not check.own or passed else "a check of your instructor's does not hold"
            marks.append(
                CheckMark(
                    check.id, check.points, check.points if passed else Fraction(0), found["status"], text, check.own
                )
            )
        unsure = any(one.status in ("hand", "ungraded") for one in marks)
        reached = None if unsure else sum((one.reached for one in marks), Fraction(0))
        notes = list(submission.gap_notes.get(gap.name, []))
        if gap.name in submission.untouched:
            notes.append("left as it was handed out")
        items.append(Item(gap.name, "gap", sum((one.points for one in marks), Fraction(0)), reached, marks, notes))
    for question in release.questions:
        answered = question.name in submission.questions
        items.append(
            Item(
                question.name,
                "question",
                question.points,
                None if answered else Fraction(0),
                notes=[] if answered else ["no answer"],
            )
        )
    if broken:
        flags.append("not graded")
    if submission.problem is not None:
        flags.append("unreadable")
    if any(one.status == "hand" for item in items for one in item.checks):
        flags.append("by hand")
    if verdict is not None and verdict.get("restarts"):
        flags.append("ended or hung")
    if submission.notes or submission.gap_notes:
        flags.append("notes")
    for item in items:
        if item.name in overrides:
            item.reached, item.decided = overrides[item.name].points, overrides[item.name].reason
            flags.append("override") if "override" not in flags else None
    return Marks(
        submission.name,
        release.name,
        items,
        flags,
        list(submission.notes),
        submission.problem or (f"not graded: {broken}" if broken else None),
        dict((verdict or {}).get("cost", {})),
    )


def read_overrides(path: Path, known: Mapping[str, Mapping[str, Fraction]]) -> dict[str, dict[str, Override]]:
    """What a person has decided, from a CSV file with the columns submission, item, points, reason.

    Args:
        known: for each submission its items and what each is worth.

    Raises:
        CourseError: a line names what is not there, or gives points that the item does not have; it names the line.
    """
    if not path.exists():
        return {}
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CourseError(f"{path}: expected CSV in UTF-8: {error}") from None
    if not rows or tuple(cell.strip() for cell in rows[0]) != HEADING:
        raise CourseError(f"{path}: line 1: expected {','.join(HEADING)}")
    found: dict[str, dict[str, Override]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(HEADING):
            raise CourseError(f"{path}: line {number}: expected {len(HEADING)} columns, got {len(row)}")
        name, item, points, reason = (cell.strip() for cell in row)
        name = name.removeprefix("'")
        if name not in known:
            raise CourseError(f"{path}: line {number}: no submission {name!r}")
        if item not in known[name]:
            raise CourseError(f"{path}: line {number}: no item {item!r} (known: {', '.join(known[name])})")
        try:
            value = Fraction(points)
        except (ValueError, ZeroDivisionError):
            raise CourseError(f"{path}: line {number}: expected points such as 2, 1.5 or 1/3, got {points!r}") from None
        if not 0 <= value <= known[name][item]:
            raise CourseError(
                f"{path}: line {number}: {item} is worth 0 to {shown(known[name][item])} points, got {points}"
            )
        found.setdefault(name, {})[item] = Override(value, reason or "no reason given")
    return found


def shown(value: Fraction | None) -> str:
    """A fraction in figures: whole, as a decimal where that is exact with three places, else as `1/3`."""
    if value is None:
        return ""
    if value.denominator == 1:
        return str(value.numerator)
    if 1000 % value.denominator == 0:
        return f"{float(value):.3f}".rstrip("0")
    return f"{value.numerator}/{value.denominator}"
