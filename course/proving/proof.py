"""The proof of a lab: it fails first at its first gap, and its checks catch wrong answers.

The rules stand here, as functions of cells and of what happened to them; `course.proving.test` has the cells executed.
Standard library only."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """The exception that ended a cell: the name of its class, its text, and the traceback as plain text."""

    name: str
    value: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        first = next((line.strip() for line in self.value.splitlines() if line.strip()), "")
        first = first if len(first) <= 160 else first[:157] + "..."
        return f"{self.name}: {first}" if first else self.name


@dataclass(frozen=True)
class Problem:
    """Why a proof failed: in which cell (its index among all cells; None: in no single one), in one line, and what to
    show below.
    """

    cell: int | None
    message: str
    detail: str = ""


# ------------------------------------------------------------------------------------------- a lab as it is handed out


def judge_handed_out(
    lab: Sequence[Cell], solution: Sequence[Cell], stopped: int | None, failure: Failure | None
) -> Problem | None:
    """What is wrong with the first error of a lab as the student gets it; None when it is as it should be.

    The first error must be the first gap's own NotImplementedError, and must come in the first gap's cell or in the
    first cell that uses a name which the gap defines (`awaited`). A lab without a gap must run to its end.

    Args:
        lab: its cells.
        solution: the cells of its solution.
        stopped: index of the cell in which the lab stopped, None when it ran to its end.
        failure: what stopped it.
    """
    gap = next((index for index, cell in enumerate(lab) if "gap" in cell["metadata"]), None)
    if gap is None:
        if failure is None:
            return None
        return Problem(stopped, f"{failure}; a lab without a gap must run to its end", failure.traceback)
    name = lab[gap]["metadata"]["gap"]
    if failure is None or stopped is None:
        message = f"gap {name!r}: the lab runs to its end without an error, since no cell uses what the gap defines"
        return Problem(gap, f"{message}: add a check that does")
    first = f"the first gap {name!r} (cell {gap + 1})"
    if stopped < gap:
        return Problem(stopped, f"{failure}, before {first}: every cell above it must pass", failure.traceback)
    if failure.name != "NotImplementedError":
        message = f"{failure}, where the NotImplementedError of {first} should come first"
        return Problem(stopped, message, failure.traceback)
    words = stub_words(lab[gap]["source"])
    if words and not any(word in failure.value for word in words):
        message = f"{failure}, which is not the stub of {first}: {words[0]!r} should come first"
        return Problem(stopped, message, failure.traceback)
    answer = next((cell["source"] for cell in solution if cell["metadata"].get("gap") == name), "")
    expected = awaited(lab, gap, answer)
    if stopped not in expected:
        where = " or ".join(f"cell {index + 1}" for index in expected)
        message = (
            f"the stub of {first} is reached here, but should be in {where}, the first to use what the gap defines"
        )
        return Problem(stopped, message, failure.traceback)
    return None


def stub_words(source: str) -> list[str]:
    """The texts of the `raise NotImplementedError("...")` in a cell."""
    words = []
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name, text = node.exc.func, node.exc.args[0]
            if isinstance(name, ast.Name) and name.id == "NotImplementedError" and isinstance(text, ast.Constant):
                words.append(str(text.value))
    return words


def parse(source: str) -> ast.Module:
    """The cell as Python, without IPython's own lines (`%matplotlib inline`, `!ls`); an empty module when it is
    none."""
    lines = ["pass" if line.startswith(("%", "!", "?")) else line for line in source.split("\n")]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def defined(source: str) -> set[str]:
    """The global names that a cell binds: assignments, functions, classes, imports, loops, `with`, `:=`."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            return
        if isinstance(node, _COMPREHENSIONS):  # their own variables stay inside; only `:=` leaves them
            inside = [part.target for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
            names.update(target.id for target in inside)
            return
        if isinstance(node, ast.Lambda):
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(parse(source))
    return names


def awaited(lab: Sequence[Cell], gap: int, answer: str) -> list[int]:
    """Indices of the cells in which the stub of a gap may be reached first; `answer` is the solution's cell.

    They are the gap's own cell, and the cells after it up to the first that uses a name of the gap's while it runs.
    What
    stands in the body of a function runs later: a cell that has the name only there passes the mark on to the function,
    and whatever uses that may reach the stub or not. The same goes for a class and its objects."""
    names = defined(answer) | defined(lab[gap]["source"])
    nodes = [*parse(answer).body, *parse(lab[gap]["source"]).body]
    classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    cells, marked = [gap], set(names)
    for index in range(gap + 1, len(lab)):
        source = lab[index]["source"]
        if lab[index]["cell_type"] != "code" or not uses(source, marked):
            continue
        cells.append(index)
        marked |= defined(source)
        if uses(source, names - classes):
            break
    return cells


def uses(source: str, marked: set[str]) -> bool:
    """Whether the cell reads a marked name while it runs; functions whose bodies read one join the marked names."""

    def reads(node: ast.AST) -> bool:
        return any(isinstance(part, ast.Name) and part.id in marked for part in ast.walk(node))

    def visit(node: ast.AST) -> bool:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if any(reads(statement) for statement in node.body):
                marked.add(node.name)
            defaults = [part for part in node.args.kw_defaults if part is not None]
            return any(visit(part) for part in [*node.decorator_list, *node.args.defaults, *defaults])
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            if reads(node.value.body):
                marked.update(target.id for target in node.targets if isinstance(target, ast.Name))
            return False
        if isinstance(node, ast.ClassDef):
            if any(reads(statement) for statement in node.body):
                marked.add(node.name)
            return any(visit(part) for part in [*node.decorator_list, *node.bases, *node.keywords, *node.body])
        if isinstance(node, ast.Name):
            return isinstance(node.ctx, ast.Load) and node.id in marked
        return any(visit(child) for child in ast.iter_child_nodes(node))

    return any(visit(statement) for statement in parse(source).body)


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


@dataclass(frozen=True)
class Step:
    """One cell of the proof's notebook.

    `role`: "cell" for a cell of the solution as it is; "answer", "between" and "check" in a trial; "note" and "restore"
    around one. `cell`: the index of the solution's cell (of the gap, where there is no other); `answer`: the wrong
    answer on trial."""

    role: str
    source: str
    cell: int
    answer: Wrong | None = None

    @property
    def may_fail(self) -> bool:
        """A trial goes on after an error; anything else ends the proof."""
        return self.role in ("answer", "between", "check")


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
    last_check = {
        cell["metadata"]["check"]: index for index, cell in enumerate(solution) if "check" in cell["metadata"]
    }
    steps = [Step("note", HELPER, 0)] if wrong else []
    for index, cell in enumerate(solution):
        if cell["cell_type"] != "code":
            continue
        gap = cell["metadata"].get("gap")
        for answer in wrong if gap in last_check else ():
            if answer.gap == gap:
                steps += [Step("note", NOTE, index, answer), Step("answer", answer.source, index, answer)]
                steps += _between(solution, index, last_check[gap], answer)
                steps.append(Step("restore", RESTORE, index, answer))
        steps.append(Step("cell", cell["source"], index))
    return steps


def _between(solution: Sequence[Cell], gap: int, last: int, answer: Wrong) -> list[Step]:
    steps = []
    for index in range(gap + 1, last + 1):
        cell = solution[index]
        of = cell["metadata"].get("check")
        if cell["cell_type"] == "code" and of in (None, answer.gap):
            steps.append(Step("between" if of is None else "check", cell["source"], index, answer))
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
    failures: Mapping[int, Failure],
    stopped: int | None = None,
) -> Verdict:
    """What is wrong with the checks, given the steps of `plan` and the failures of those that failed, by index.

    A wrong answer is caught when a check of its own gap is the first to fail, by AssertionError (a check that fails by
    another exception is passed over for the gap's next one). It is not caught when every check passes, when no check
    fails by
    AssertionError, or when the answer itself or a cell between gap and check fails first: such a message tells a
    student nothing.

    Args:
        stopped: the step at which the execution ended before its time; later steps are not judged.
    """
    verdict = Verdict()
    gaps = {cell["metadata"]["gap"]: index for index, cell in enumerate(solution) if "gap" in cell["metadata"]}
    checked = {cell["metadata"]["check"] for cell in solution if "check" in cell["metadata"]}
    answered = {answer.gap for answer in wrong}
    for answer in wrong:
        if answer.gap not in gaps:
            message = (
                f"{answer.where}: a wrong answer to an unknown gap {answer.gap!r} (known: {', '.join(gaps) or 'none'})"
            )
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
        trial = [(step, failures.get(index)) for index, step in enumerate(steps[start:last], start)]
        problem = missed(trial)
        if problem is None:
            verdict.caught += 1
        else:
            verdict.problems.append(problem)
    if stopped is not None:
        verdict.problems.append(_stop(solution, steps[stopped], failures.get(stopped)))
    return verdict


def missed(trial: Sequence[tuple[Step, Failure | None]]) -> Problem | None:
    """Why a trial caught nothing; None when a check did."""
    first, failure = trial[0]
    answer = first.answer
    assert answer is not None
    said = f"gap {answer.gap!r}: the wrong answer {answer.why!r} ({answer.where})"
    if failure is not None:
        message = f"{said} stops by itself with {failure}, before any check: let it run to its end, or take it away"
        return Problem(first.cell, message, failure.traceback)
    other: tuple[Step, Failure] | None = None
    for step, failure in trial[1:]:
        if failure is None:
            continue
        if step.role == "between":
            message = (
                f"{said} is not caught by a check: cell {step.cell + 1}, which is none, fails first with {failure}"
            )
            return Problem(first.cell, message, failure.traceback)
        if failure.name == "AssertionError":
            return None
        other = other or (step, failure)
    if other is not None:
        step, failure = other
        message = f"{said} stops the check in cell {step.cell + 1} with {failure}, not by AssertionError: let it say what is wrong"
        return Problem(first.cell, message, failure.traceback)
    return Problem(
        first.cell, f"{said} passes every check: strengthen the check, or take the answer away if it is right"
    )


def _stop(solution: Sequence[Cell], step: Step, failure: Failure | None) -> Problem:
    """The words for an execution that did not reach its end."""
    failure = failure or Failure("Stopped")
    if step.answer is not None:
        answer = step.answer
        message = f"gap {answer.gap!r}: the wrong answer {answer.why!r} ({answer.where}) ends the proof: {failure}"
        return Problem(step.cell, message, failure.traceback)
    metadata = solution[step.cell]["metadata"]
    role = ""
    for key, words in (("gap", "the right answer to gap"), ("check", "a check of gap")):
        if key in metadata:
            role = f", {words} {metadata[key]!r}"
    return Problem(step.cell, f"the solution fails{role}: {failure}", failure.traceback)


# A module of its own in the kernel, so that the notebook's names stay what they are.
HELPER = '''\
def _course_proof():
    import sys
    import types

    source = """
import random
import sys

from IPython import get_ipython

noted = {}


def note():
    noted["names"] = dict(get_ipython().user_ns)
    noted["python"] = random.getstate()
    noted["numpy"] = sys.modules["numpy.random"].get_state() if "numpy.random" in sys.modules else None


def restore():
    names = get_ipython().user_ns
    for name in set(names) - set(noted["names"]):
        del names[name]
    names.update(noted["names"])
    random.setstate(noted["python"])
    if noted["numpy"] is not None:
        sys.modules["numpy.random"].set_state(noted["numpy"])
    noted.clear()
"""
    module = types.ModuleType("_course_proof")
    exec(source, module.__dict__)
    sys.modules["_course_proof"] = module


_course_proof()
del _course_proof
'''
NOTE = "__import__('_course_proof').note()"
RESTORE = "__import__('_course_proof').restore()"
