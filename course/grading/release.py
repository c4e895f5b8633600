"""The release of a lab, which every submission is held against: its cells, gaps, checks, points and questions."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.grading import plan
from course.manifest import Manifest, Notebook
from course.notebook import Cell, python_tree, read_notebook, typed_cells
from course.parameters import resolve

PROFILE = "smoke"  # a gap that trains is judged with these parameters, as `course test` proves it


@dataclass(frozen=True)
class Check:
    """One check of a gap, worth some points. `own`: an instructor's, of whose code and words a student sees nothing."""

    id: str
    gap: str
    points: Fraction
    source: str
    index: int
    own: bool = False


@dataclass(frozen=True)
class Gap:
    """`answer` is the solution's cell, `stub` the lab's; `defines` are the names that the answer binds."""

    name: str
    index: int
    answer: str
    stub: str
    defines: tuple[str, ...]
    values: tuple[str, ...]  # those of them that are neither functions nor classes


@dataclass(frozen=True)
class Question:
    id: str
    name: str
    points: Fraction
    index: int
    stub: str


class Release:
    """A lab as released, with its solution.

    Args:
        notebook: the lab.
        own: a folder with an instructor's own checks (`07_semantic_segmentation.py`), or None.
    """

    def __init__(self, manifest: Manifest, notebook: Notebook, own: Path | None = None) -> None:
        self.notebook, self.manifest = notebook, manifest
        solution = Notebook(notebook.topic, "solution", notebook.root)
        lab = Notebook(notebook.topic, "lab", notebook.root)
        self.cells = typed_cells(read_notebook(solution.path, solution.relative))
        self.lab_notebook = read_notebook(lab.path, lab.relative)
        self.lab_cells = typed_cells(self.lab_notebook)
        if len(self.cells) != len(self.lab_cells):
            raise CourseError(
                f"{lab.relative}: expected as many cells as {solution.relative} has: `course build` makes both"
            )
        self.parameters = resolve(solution.path, solution.overrides(PROFILE), solution.relative)
        self.gaps = [self._gap(cell) for cell in self.cells if cell.role == "gap"]
        self.checks = [
            Check(cell.id, cell.name, Fraction(cell.points), cell.source, cell.index)
            for cell in self.cells
            if cell.role == "check"
        ]
        if own is not None:
            self.checks += self._own(own)
        self.questions = [
            Question(cell.id, cell.name, Fraction(cell.points), cell.index, self.lab_cells[cell.index].source)
            for cell in self.cells
            if cell.role == "question"
        ]
        if not self.gaps:
            raise CourseError(f"{lab.relative}: expected a lab with gaps, found none")

    @property
    def name(self) -> str:
        return self.notebook.stem

    @property
    def total(self) -> Fraction:
        questions = sum((question.points for question in self.questions), Fraction(0))
        return questions + sum((check.points for check in self.checks), Fraction(0))

    def worth(self, gap: str) -> Fraction:
        return sum((check.points for check in self.checks_of(gap)), Fraction(0))

    def checks_of(self, gap: str) -> list[Check]:
        return [check for check in self.checks if check.gap == gap]

    def _gap(self, cell: Cell) -> Gap:
        body = plan.statements(cell.source)
        defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        names = plan.bound(body)
        values = tuple(sorted(names - defined)) if not defined else ()
        stub = self.lab_cells[cell.index].source
        return Gap(cell.name, cell.index, cell.source, stub, tuple(sorted(defined | set(values))), values)

    def _own(self, folder: Path) -> list[Check]:
        path = folder / f"{self.name}.py"
        if not folder.is_dir():
            raise CourseError(f"--checks {folder}: no such folder")
        if not path.is_file():
            return []
        found: list[Check] = []
        import jupytext

        read = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
        for number, cell in enumerate(read.cells):
            gap, points = cell.metadata.get("check"), cell.metadata.get("points")
            if cell.cell_type != "code":
                continue
            if gap not in [known.name for known in self.gaps]:
                known = ", ".join(known.name for known in self.gaps)
                raise CourseError(
                    f'{path}: cell {number + 1}: expected `check="GAP"` with a gap of the lab ({known}), got {gap!r}'
                )
            if isinstance(points, bool) or not isinstance(points, (int, float)) or points < 0:
                raise CourseError(f"{path}: cell {number + 1}: expected `points=NUMBER`, got {points!r}")
            try:
                ast.parse(cell.source)
            except SyntaxError as error:
                raise CourseError(f"{path}: cell {number + 1}, line {error.lineno}: {error.msg}") from None
            last = max(check.index for check in self.checks if check.gap == gap)
            ident = f"{gap}-own-{sum(check.gap == gap for check in found) + 1}"
            found.append(Check(ident, gap, Fraction(str(points)), cell.source, last, own=True))
        return found

    # ------------------------------------------------------------------------------------------------ what each side
    # runs

    def _given(self) -> list[tuple[int, str]]:
        """The given code cells; of the setup cell its imports, after the parameters their values."""
        found = []
        for cell in self.cells:
            if cell.type != "code" or cell.role in ("gap", "check"):
                continue
            source = cell.source
            if cell.role == "setup":
                body = [node for node in plan.statements(source) if isinstance(node, (ast.Import, ast.ImportFrom))]
                source = "\n".join(ast.unparse(node) for node in body)
            if cell.role == "parameters":
                source += "".join(f"\n{name} = {value!r}" for name, value in self.parameters.items())
            found.append((cell.index, source))
        return found

    def _kept(self, *running: tuple[int, str]) -> dict[int, str]:
        """What of the given cells must run for some cells (index, source) to find what they read."""
        given = [(index, source, False) for index, source in self._given()]
        whole = [(index, source, True) for index, source in running if _is_python(source)]
        return plan.kept(sorted(given + whole, key=lambda cell: cell[0]))

    @cached_property
    def _judged(self) -> dict[int, str]:
        checks = [(check.index, check.source) for check in self.checks]
        return self._kept(*checks, *((gap.index, gap.answer) for gap in self.gaps))

    def _submitted(self, answers: Mapping[str, str]) -> dict[int, str]:
        """What the submission's side must run: for its answers, the solution's, and the given functions that a check
        hands over.
        """
        running = [(gap.index, gap.answer) for gap in self.gaps]
        running += [(gap.index, plan_answer(answers[gap.name])) for gap in self.gaps if gap.name in answers]
        given = {name for _, source in self._given() for name in plan.functions(source)}
        running += [(check.index, "\n".join(sorted(given & plan.names_in(check.source)))) for check in self.checks]
        return self._kept(*running)

    def program(self, answers: Mapping[str, str]) -> list[dict[str, Any]]:
        """The steps of judging a submission, for `course.grading.inside.judge`.

        Args:
            answers: the submission's cell for each gap that it has.
        """
        submitted, judged = self._submitted(answers), self._judged
        checks: dict[int, list[Check]] = {}
        for check in self.checks:
            checks.setdefault(check.index, []).append(check)
        last = {check.gap: check.index for check in self.checks}
        gaps = {gap.index: gap for gap in self.gaps}
        steps: list[dict[str, Any]] = []
        for cell in self.cells:
            index = cell.index
            if index in gaps:
                gap = gaps[index]
                steps.append(
                    {
                        "kind": "gap",
                        "gap": gap.name,
                        "index": index,
                        "defines": gap.defines,
                        "values": gap.values,
                        "solution": gap.answer,
                        "answer": plan_answer(answers.get(gap.name, gap.stub)),
                    }
                )
                if gap.name not in last:
                    steps.append({"kind": "end", "gap": gap.name, "index": index})
            elif index in judged and (judged[index] or submitted[index]):
                steps.append(
                    {
                        "kind": "given",
                        "index": index,
                        "judge": judged[index],
                        "submission": submitted[index],
                        "functions": plan.functions(judged[index]),
                    }
                )
            for check in checks.get(index, []):
                steps.append(
                    {"kind": "check", "gap": check.gap, "id": check.id, "index": index, "source": check.source}
                )
            if index in last.values():
                steps += [
                    {"kind": "end", "gap": name, "index": index}
                    for name, where in last.items()
                    if where == index and name in [gap.name for gap in self.gaps]
                ]
        _mark_needed(steps)
        return steps

    def supporting(self) -> list[str]:
        """Sources: what the submission's side runs beside the student's answers, and the solution's answers."""
        return [*self._submitted({}).values(), *(gap.answer for gap in self.gaps)]

    def answering(self) -> list[str]:
        """Sources: the solution's answers, and what of the given cells these need."""
        answers = [(gap.index, gap.answer) for gap in self.gaps]
        return [*self._kept(*answers).values(), *(answer for _, answer in answers)]

    def fingerprint(self) -> str:
        """Changes when anything changes that a mark depends on: the release's cells, its parameters, own checks."""
        content: list[Any] = [[cell.id, cell.role, cell.name, str(cell.points), cell.source] for cell in self.cells]
        content += [[cell.id, cell.source] for cell in self.lab_cells]
        content += [[check.id, str(check.points), check.source] for check in self.checks]
        return hashlib.sha256(json.dumps([content, self.parameters]).encode()).hexdigest()


def plan_answer(source: str) -> str:
    """An answer as Python: without IPython's own lines (`%time`, `!pip install`), where it has any; as it is, when it
    is no Python.
    """
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        with contextlib.suppress(SyntaxError):
            return ast.unparse(python_tree(source))
    return source


def _is_python(source: str) -> bool:
    try:
        python_tree(source)
    except SyntaxError:
        return False
    return True


def _mark_needed(steps: list[dict[str, Any]]) -> None:
    """Of each given cell and check, whether a later check of another gap needs what it binds, or a cell of its own gap
    that is needed itself.
    """
    for number, step in reversed(list(enumerate(steps))):
        if step["kind"] in ("given", "check"):
            source = step.get("judge", step.get("source", ""))
            names = plan.bound(plan.statements(source))
            later = [
                later.get("judge") or later.get("source") or ""
                for later in steps[number + 1 :]
                if later.get("gap") != step.get("gap") or later.get("needed")
            ]
            step["needed"] = any(names & plan.names_in(source) for source in later)
