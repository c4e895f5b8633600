"""The rules of the proofs: a lab stops first at its first gap, and its checks catch wrong answers.

They are functions of cells and of how these ended; `course.proving.test` has the cells executed. Standard library only.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from course.notebook import Cell, python_nodes
from course.outcome import CellResult


@dataclass(frozen=True)
class Problem:
    """Why a proof failed: in which cell (its index among all cells; None: in no single one), in one line, and what to
    show below.
    """

    cell: int | None
    message: str
    detail: str = ""


def in_words(failure: CellResult) -> str:
    """`NameError: name 'x' is not defined`, in one line."""
    first = next((line.strip() for line in failure.message.splitlines() if line.strip()), "")
    first = first if len(first) <= 160 else first[:157] + "..."
    return f"{failure.name}: {first}" if first and failure.name else failure.name or first


# ------------------------------------------------------------------------------------------- a lab as it is handed out


def judge_handed_out(lab: Sequence[Cell], failure: CellResult | None) -> Problem | None:
    """What is wrong with the first error of a lab as the student gets it; None when it is as it should be.

    The first error must be the NotImplementedError of the first gap, with the text of its stub. It comes from the gap's
    own cell or from the first cell that uses what the gap defines; every cell before has passed. A lab without a gap
    must run to its end.

    Args:
        lab: its cells.
        failure: how the cell ended in which the lab stopped; None when it ran to its end.
    """
    gap = next((cell for cell in lab if cell.role == "gap"), None)
    if gap is None:
        if failure is None:
            return None
        return Problem(
            failure.index, f"{in_words(failure)}; a lab without a gap must run to its end", failure.traceback
        )
    if failure is None:
        message = f"gap {gap.name!r}: the lab runs to its end without an error, since no cell uses what the gap defines"
        return Problem(gap.index, f"{message}: add a check that does")
    first = f"the first gap {gap.name!r} (cell {gap.index + 1})"
    if failure.index < gap.index:
        message = f"{in_words(failure)}, before {first}: every cell above it must pass"
    elif failure.name != "NotImplementedError":
        message = f"{in_words(failure)}, where the NotImplementedError of {first} should come first"
    elif (texts := stub_texts(gap.source)) and not any(text in failure.message for text in texts):
        message = f"{in_words(failure)}, which is not the stub of {first}: {texts[0]!r} should come first"
    else:
        return None
    return Problem(failure.index, message, failure.traceback)


def stub_texts(source: str) -> list[str]:
    """The texts of the `raise NotImplementedError("...")` in a cell."""
    return [
        str(node.exc.args[0].value)
        for node in python_nodes(source)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == "NotImplementedError"
        and node.exc.args
        and isinstance(node.exc.args[0], ast.Constant)
    ]


# -------------------------------------------------------------------------------------------------- wrong answers


@dataclass(frozen=True)
class Wrong:
    """A wrong answer to a gap: the whole cell, why somebody would write it, and where it stands
    (`sources/wrong/x.py:12`).
    """

    gap: str
    why: str
    source: str
    where: str = ""

    def __str__(self) -> str:
        return f"gap {self.gap!r}: the wrong answer {self.why!r} ({self.where})"


@dataclass(frozen=True)
class Step:
    """One cell of the proof's notebook.

    `role`: "cell" for a cell of the solution as it is; "answer", "between" and "check" in a trial; "note" and "restore"
    around one. `cell`: the index of the solution's cell (of the gap, where there is no other); `answer`: the wrong
    answer on trial.
    """

    role: str
    source: str
    cell: int
    answer: Wrong | None = None

    @property
    def may_fail(self) -> bool:
        """A trial goes on after an error; anything else ends the proof."""
        return self.role in ("answer", "between", "check")


# A module of `course.execution.inkernel`, which every kernel of ours has.
NOTE = "__import__('_course_trial').note()"
RESTORE = "__import__('_course_trial').restore()"


def plan(solution: Sequence[Cell], wrong: Sequence[Wrong]) -> list[Step]:
    """One run of the solution, with every wrong answer on trial just before the right one.

    A trial: the wrong answer stands in the gap's place, then come the code cells from the gap to its last check. Those
    that are no check run too, since a check may use what they make (other gaps with their right answers); other gaps'
    checks do not.

    Around each trial the global names and the generators of random numbers are noted and put back, so that
    `images = images / 255` is safe in a gap. What is changed in place stays changed (`images /= 255`, the weights of a
    model): a gap makes anew what it changes, or the cell after it does.

    After its trials the gap's right answer runs, and the solution goes on as in any run, hidden checks included.
    """
    last_check = {cell.name: cell.index for cell in solution if cell.role == "check"}
    steps: list[Step] = []
    for cell in solution:
        if cell.type != "code":
            continue
        for answer in wrong if cell.role == "gap" and cell.name in last_check else ():
            if answer.gap == cell.name:
                steps += [Step("note", NOTE, cell.index, answer), Step("answer", answer.source, cell.index, answer)]
                steps += [
                    Step("check" if other.role == "check" else "between", other.source, other.index, answer)
                    for other in solution[cell.index + 1 : last_check[answer.gap] + 1]
                    if other.type == "code" and (other.role != "check" or other.name == answer.gap)
                ]
                steps.append(Step("restore", RESTORE, cell.index, answer))
        steps.append(Step("cell", cell.source, cell.index))
    return steps


@dataclass
class Verdict:
    """What the wrong answers' proof found: its problems, and how many wrong answers were caught by a check."""

    problems: list[Problem] = field(default_factory=list)
    caught: int = 0


def judge_wrong_answers(
    solution: Sequence[Cell],
    wrong: Sequence[Wrong],
    steps: Sequence[Step],
    failures: Mapping[int, CellResult],
    stopped: int | None = None,
) -> Verdict:
    """What is wrong with the checks, given the steps of `plan` and how those ended that failed, by the number of the
    step.

    A wrong answer is caught when a check of its own gap is the first to fail, by AssertionError (a check that fails by
    another exception is passed over for the gap's next one). It is not caught when every check passes, when no check
    fails by AssertionError, or when the answer itself or a cell between gap and check fails first: such a message tells
    a student nothing.

    Args:
        stopped: the step at which the execution ended before its time; later steps are not judged.
    """
    verdict = Verdict()
    gaps = {cell.name: cell.index for cell in solution if cell.role == "gap"}
    checked = {cell.name for cell in solution if cell.role == "check"}
    answered = {answer.gap for answer in wrong}
    for answer in wrong:
        if answer.gap not in gaps:
            known = ", ".join(gaps) or "none"
            message = f"{answer.where}: a wrong answer to an unknown gap {answer.gap!r} (known: {known})"
            verdict.problems.append(Problem(None, message))
        elif answer.gap not in checked:
            message = f"gap {answer.gap!r} has a wrong answer ({answer.where}) but no check that could catch it"
            verdict.problems.append(Problem(gaps[answer.gap], message))
    for name, index in gaps.items():
        if name in checked and name not in answered:
            message = f"gap {name!r} has no wrong answer that its checks must catch: write one in sources/wrong/"
            verdict.problems.append(Problem(index, message))

    end = len(steps) if stopped is None else stopped
    for start in (index for index, step in enumerate(steps) if step.role == "answer"):
        last = next(index for index in range(start, len(steps)) if steps[index].role == "restore")
        if last > end:
            break
        problem = missed([(step, failures.get(index)) for index, step in enumerate(steps[start:last], start)])
        if problem is None:
            verdict.caught += 1
        else:
            verdict.problems.append(problem)
    if stopped is not None:
        verdict.problems.append(_stop(solution, steps[stopped], failures[stopped]))
    return verdict


def missed(trial: Sequence[tuple[Step, CellResult | None]]) -> Problem | None:
    """Why a trial caught nothing; None when a check did."""
    first, failure = trial[0]
    said = str(first.answer)
    if failure is not None:
        message = (
            f"{said} stops by itself with {in_words(failure)}, before any check: let it run to its end, or take it away"
        )
        return Problem(first.cell, message, failure.traceback)
    other: tuple[Step, CellResult] | None = None
    for step, failure in trial[1:]:
        if failure is None:
            continue
        if step.role == "between":
            message = f"{said} is not caught by a check: cell {step.cell + 1}, which is none, fails first"
            return Problem(first.cell, f"{message} with {in_words(failure)}", failure.traceback)
        if failure.name == "AssertionError":
            return None
        other = other or (step, failure)
    if other is not None:
        step, failure = other
        message = f"{said} stops the check in cell {step.cell + 1} with {in_words(failure)}, not by AssertionError"
        return Problem(first.cell, f"{message}: let it say what is wrong", failure.traceback)
    message = f"{said} passes every check: strengthen the check, or take the answer away if it is right"
    return Problem(first.cell, message)


def _stop(solution: Sequence[Cell], step: Step, failure: CellResult) -> Problem:
    """The words for an execution that did not reach its end."""
    if step.answer is not None:
        return Problem(step.cell, f"{step.answer} ends the proof: {in_words(failure)}", failure.traceback)
    cell = solution[step.cell]
    role = {"gap": ", the right answer to gap", "check": ", a check of gap"}.get(cell.role, "")
    whose = f"{role} {cell.name!r}" if role else ""
    return Problem(step.cell, f"the solution fails{whose}: {in_words(failure)}", failure.traceback)
