"""`course test`: stored outputs are what the cells print, labs fail first at their first gap, checks catch wrong
answers.

Everything runs with the smoke parameters, each notebook in a process of its own, and stays below `build/test/`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from course.authoring import assemble
from course.authoring.build import build
from course.authoring.sources import read_wrong
from course.errors import CourseError
from course.execution import run
from course.execution.cache import Cache
from course.execution.worker import Flag, Request, spawn
from course.files import write_atomically
from course.manifest import Manifest, Notebook
from course.notebook import CHECKED, Cell, first_words, read_notebook, tags, typed_cells
from course.outcome import CellResult, Result
from course.parameters import resolve
from course.proving import rules

PROFILE = "smoke"
PARTS = {"outputs": "stored outputs", "lab": "lab as handed out", "wrong": "wrong answers"}
SUITE = "course.proving.suite:execute"
DETAIL = 12  # lines of a traceback that are shown
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
COMMENT = re.compile(r"^\s*#\s*NBVAL_CHECK_OUTPUT\s*$", re.MULTILINE)


@dataclass
class Outcome:
    """One proof of one notebook: what it found (a line each, with lines to show below it), and what it cost."""

    part: str
    notebook: Notebook
    summary: str = ""
    problems: list[tuple[str, str]] = field(default_factory=list)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)  # what the notebook read, with digests
    cached: bool = False  # proved before, and nothing of what it depends on has changed

    def add(self, index: int | None, message: str, detail: str = "") -> None:
        """A problem in a cell (index among all cells of the notebook), or in no single one."""
        place = self.notebook.relative
        if index is not None:
            cells = read_notebook(self.notebook.path, place)["cells"]
            place += f": cell {index + 1} ({first_words(cells[index])})"
        self.problems.append((f"{place}: {message}", detail))

    def add_cell(self, cell: CellResult, before: str = "") -> None:
        """A cell that ended as it should not; index -1 is no cell."""
        index = cell.index if cell.index >= 0 else None
        self.add(index, before + rules.in_words(cell), _last_lines(cell.traceback))

    def took(self, result: Result) -> None:
        self.cpu_seconds, self.wall_seconds, self.files = result.cpu_seconds, result.wall_seconds, result.files

    def __str__(self) -> str:
        mark = "FAIL" if self.problems else "same" if self.cached else "ok  "
        lines = [
            f"{mark}  {self.notebook.id:12}  {PARTS[self.part]:18} {self.wall_seconds:6.1f} s  {self.summary}".rstrip()
        ]
        for message, detail in self.problems:
            lines.append(f"      {message}")
            lines += [f"          {line}" for line in detail.splitlines()]
        return "\n".join(lines)


# --------------------------------------------------------------------------------------------------- preparations


def folder(notebook: Notebook, part: str) -> Path:
    """Where a proof keeps its notebooks."""
    return notebook.root / "build" / "test" / part / f"{notebook.kind}s"


def request(manifest: Manifest, notebook: Notebook, path: Path, trials: int = 0) -> Request:
    """How `course run` executes the notebook in the smoke profile; each trial of a wrong answer has the same time
    again.
    """
    order = run.request(notebook, manifest.profile(PROFILE), parameters(notebook))
    order.notebook = str(path)
    order.cpu_seconds *= 1 + trials
    order.wall_seconds *= 1 + trials
    return order


def parameters(notebook: Notebook) -> dict[str, Any]:
    """The smoke parameters. A lab has those of its solution, whose cells read them all."""
    where = notebook.relative.replace("labs/", "solutions/")
    own = notebook.overrides(PROFILE)
    return resolve(notebook.root / where, own, where, dict.fromkeys(own, f"parameters.{PROFILE} in course.toml"))


def prepare(notebook: Notebook, path: Path) -> None:
    """Write the notebook with its smoke parameters, as `papermill --prepare-only` does."""
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    nb = load_notebook_node(str(notebook.path))
    if values := parameters(notebook):
        nb = parameterize_notebook(nb, values, kernel_name="python3", language="python")
    write_atomically(path, nbformat.writes(nb))


# ---------------------------------------------------------------------------------------------------- stored outputs


def unstored(cells: Sequence[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """The checked cells that nbval would pass over without a word, or could not compare, with what to do."""
    for index, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        if CHECKED not in tags(cell):
            if COMMENT.search(cell["source"]):
                yield (
                    index,
                    f'the comment NBVAL_CHECK_OUTPUT stores nothing: write tags=["{CHECKED}"] in the cell\'s header',
                )
            continue
        stored = cell.get("outputs") or []
        if "nbval-skip" in tags(cell):
            yield index, f"tagged both {CHECKED} and nbval-skip: take one away"
        elif not stored:
            yield index, "the output to compare with is missing: `course test --update` stores it"
        elif cell.get("execution_count") is None:
            yield (
                index,
                "has an output but execution_count null, so nbval passes it over: `course test --update` mends it",
            )
        elif assemble.checked_outputs(cell) != [_joined(output) for output in stored]:
            yield index, "stores something else than one printed text: `course test --update` mends it"


def _joined(output: dict[str, Any]) -> dict[str, Any]:
    text = output.get("text")
    return {**output, "text": "".join(text)} if isinstance(text, list) else output


def nbval_suite(manifest: Manifest, notebook: Notebook, cancel: Flag | None = None) -> Outcome:
    """nbval over the prepared notebook: every cell runs, checked outputs are compared, a missing one is a fault."""
    outcome = Outcome("outputs", notebook)
    cells = read_notebook(notebook.path, notebook.relative)["cells"]
    silent = dict(unstored(cells))
    for place, message in silent.items():
        outcome.add(place, message)
    path = folder(notebook, "outputs") / f"{notebook.stem}.ipynb"
    prepare(notebook, path)
    order = request(manifest, notebook, path)
    order.parameters, order.executor = {}, SUITE
    result, _ = spawn(order, cancel=cancel)
    outcome.took(result)
    ran = [cell for cell in result.cells if cell.status != "skipped"]
    failures = [cell for cell in ran if cell.status != "passed"]
    for cell in failures:
        if cell.index not in silent:
            meant = "" if cell.name else f"; if that is meant: `course test --update {notebook.id}`"
            outcome.add(cell.index, f"{rules.in_words(cell)}{meant}", _last_lines(cell.traceback))
    stopped = _stopped(result)
    if stopped is not None and not failures:  # by no cell of its own
        outcome.add_cell(stopped)
    compared = sum(CHECKED in tags(cell) and "nbval-skip" not in tags(cell) for cell in cells)
    outcome.summary = f"{len({cell.index for cell in ran})} cells, {compared} compared"
    return outcome


def _last_lines(text: str, most: int = DETAIL) -> str:
    lines = text.splitlines()
    return "\n".join(lines if len(lines) <= most else ["[...]", *lines[-most:]])


# ------------------------------------------------------------------------------------------------------ the two proofs


def _stopped(result: Result) -> CellResult | None:
    """How the cell ended at which the execution stopped; None when it came to its end. Index -1 is no cell at all."""
    error = result.error
    if error is None:
        return None if result.status == "passed" else CellResult(-1, "", result.status, result.status)
    place = -1 if error["cell"] is None else error["cell"]
    return CellResult(place, "", result.status, error["name"], error["value"], error["traceback"])


def _cells(notebook: Notebook) -> list[Cell]:
    return typed_cells(read_notebook(notebook.path, notebook.relative))


def prove_lab(manifest: Manifest, notebook: Notebook, cancel: Flag | None = None) -> Outcome:
    """Run the lab as it is handed out and judge its first error; see `course.proving.rules.judge_handed_out`."""
    outcome = Outcome("lab", notebook)
    lab = _cells(notebook)
    result, _ = spawn(request(manifest, notebook, notebook.path), cancel=cancel)
    outcome.took(result)
    stopped = _stopped(result)
    if stopped is not None and (stopped.status != "failed" or stopped.index < 0):
        outcome.add_cell(stopped)
        return outcome
    problem = rules.judge_handed_out(lab, stopped)
    if problem is not None:
        outcome.add(problem.cell, problem.message, _last_lines(problem.detail))
    elif stopped is not None:
        gap = next(cell.name for cell in lab if cell.role == "gap")
        outcome.summary = f"stops at cell {stopped.index + 1} of {len(lab)}, at the stub of {gap!r}"
    else:
        outcome.summary = f"{len(lab)} cells, none of them a gap"
    return outcome


def prove_wrong_answers(manifest: Manifest, notebook: Notebook, cancel: Flag | None = None) -> Outcome:
    """Run the solution once with every wrong answer on trial in its place; see `course.proving.rules.plan`."""
    outcome = Outcome("wrong", notebook)
    solution = _cells(notebook)
    where = f"sources/wrong/{notebook.stem}.py"
    wrong = [
        rules.Wrong(answer.gap, answer.why, answer.source, f"{where}:{answer.line}") for answer in read_wrong(notebook)
    ]
    steps = rules.plan(solution, wrong)
    path = folder(notebook, "wrong") / f"{notebook.stem}.ipynb"
    write_atomically(path, json.dumps(_as_notebook(solution, steps)))
    result, _ = spawn(request(manifest, notebook, path, trials=len(wrong)), cancel=cancel)
    outcome.took(result)
    stopped = _stopped(result)
    if stopped is not None and stopped.index < 0:
        outcome.add_cell(stopped)
        return outcome
    failures = {cell.index: cell for cell in result.cells if cell.status not in ("passed", "skipped")}
    if stopped is not None:
        failures[stopped.index] = stopped
    verdict = rules.judge_wrong_answers(solution, wrong, steps, failures, None if stopped is None else stopped.index)
    for problem in verdict.problems:
        outcome.add(problem.cell, problem.message, _last_lines(problem.detail))
    gaps = len({answer.gap for answer in wrong})
    outcome.summary = f"{verdict.caught} of {len(wrong)} caught, {gaps} {'gap' if gaps == 1 else 'gaps'}"
    return outcome


def _as_notebook(solution: Sequence[Cell], steps: Sequence[rules.Step]) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        marks = ["raises-exception"] if step.may_fail else []
        if step.role == "cell" and solution[step.cell].role == "parameters":
            marks.append("parameters")
        cell = {"cell_type": "code", "execution_count": None, "id": f"step-{number}", "metadata": {"tags": marks}}
        cells.append({**cell, "outputs": [], "source": step.source})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


# ---------------------------------------------------------------------------------------------------------- --update


def printed(cell: dict[str, Any]) -> tuple[str, str]:
    """What an executed checked cell printed, and why that cannot be stored (empty when it can)."""
    text = ""
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream" and output["name"] == "stdout":
            text += output["text"] if isinstance(output["text"], str) else "".join(output["text"])
        elif output["output_type"] == "stream":
            return "", "writes to stderr, where warnings differ between machines; print what is to be compared"
        else:
            kinds = ", ".join(output.get("data", {})) or output["output_type"]
            return "", f"shows {kinds}; a checked cell prints plain text only: print() what is to be compared"
    if not text:
        return "", "prints nothing to compare"
    address = ADDRESS.search(text)
    if address:
        return "", f"prints an address in memory ({address[0]}), which differs in every run"
    return text, ""


def update_outputs(manifest: Manifest, notebook: Notebook, cancel: Flag | None = None) -> Outcome:
    """Execute the notebook with its smoke parameters and store what its checked cells printed; all of them or none.

    Afterwards the notebook is what `course build` makes of its source. That a checked text is the same in every profile
    is for its author to see to.
    """
    outcome = Outcome("outputs", notebook)
    result, executed = spawn(request(manifest, notebook, notebook.path), cancel=cancel)
    outcome.took(result)
    stopped = _stopped(result)
    if stopped is not None or executed is None:
        outcome.add_cell(stopped or CellResult(-1, "", result.status), "nothing stored: ")
        return outcome
    texts = {}
    places = {
        cell.get("id"): index for index, cell in enumerate(read_notebook(notebook.path, notebook.relative)["cells"])
    }
    for cell in json.loads(executed)["cells"]:
        if CHECKED in tags(cell):
            text, refusal = printed(cell)
            if refusal:
                outcome.add(places.get(cell["id"]), f"nothing stored: {refusal}")
            texts[cell["id"]] = text
    if outcome.problems:
        return outcome
    changed = assemble.store_outputs(notebook, texts)
    for built in build(manifest, [notebook], check=True):
        if built.state != "unchanged":
            outcome.problems.append((built.message, ""))
    number = f"{len(texts)} checked {'output' if len(texts) == 1 else 'outputs'}"
    outcome.summary = f"{number} stored" if changed else f"{number} as stored already"
    return outcome


# -------------------------------------------------------------------------------------------------- proved before


class Proved:
    """The proofs that passed, by content: what `course run` takes for a notebook's content, the stored outputs, what
    else the proof reads, and the rules of the proof themselves. One entry for each proof, below `build/test/proved`."""

    def __init__(self, manifest: Manifest) -> None:
        self.cache = Cache(manifest.root, manifest.profile(PROFILE))

    def key(self, part: str, notebook: Notebook) -> str:
        solution = Notebook(notebook.topic, "solution", notebook.root)
        content: list[Any] = [part, asdict(self.cache.key(notebook, parameters(notebook))), notebook.minutes(PROFILE)]
        content += [_code(each) for each in ([notebook, solution] if part == "lab" else [notebook])]
        if part == "wrong":
            content += [asdict(answer) for answer in read_wrong(notebook)]
        own = sorted(Path(__file__).parents[1].rglob("*.py"))
        content += [hashlib.sha256(path.read_bytes()).hexdigest() for path in own if path.stem in RULES]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()

    def _path(self, part: str, notebook: Notebook) -> Path:
        return folder(notebook, "proved") / f"{notebook.stem}.{part}.json"

    def get(self, part: str, notebook: Notebook) -> Outcome | None:
        try:
            stored = json.loads(self._path(part, notebook).read_bytes())
            if stored["key"] != self.key(part, notebook) or not self.cache.serves(stored["files"]):
                return None
            return Outcome(part, notebook, str(stored["summary"]), cached=True)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, outcome: Outcome, before: str) -> None:
        """Store a success, unless the course has changed while it was proved; data that it fetched itself may have."""
        if outcome.problems or outcome.cached:
            return
        key = self.key(outcome.part, outcome.notebook)
        if key == before:
            stored = {"key": key, "summary": outcome.summary, "files": outcome.files}
            write_atomically(self._path(outcome.part, outcome.notebook), json.dumps(stored))


RULES = (
    "client",
    "worker",
    "output",
    "trial",
    "suite",
    "rules",
    "test",
)  # modules of `course` that a verdict depends on


def _code(notebook: Notebook) -> list[Any]:
    """The code cells with their places and stored outputs; an edited text changes none of it."""
    cells = read_notebook(notebook.path, notebook.relative)["cells"]
    return [len(cells), *([index, cell] for index, cell in enumerate(cells) if cell["cell_type"] == "code")]


# ---------------------------------------------------------------------------------------------------------- the command


def test(
    manifest: Manifest,
    notebooks: Sequence[Notebook],
    update: bool = False,
    parts: Collection[str] = tuple(PARTS),
    jobs: int | None = None,
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Prove these notebooks and tell of each proof as it ends; the problems, a line each.

    A lecture or solution is held against its stored outputs, a solution against its wrong answers, and a lab is run as
    it is handed out. A solution that stores nothing runs once: the proof of its wrong answers runs all of its cells, in
    a kernel in which trials may have changed objects in place. With `update`, stored outputs are written anew instead.

    Args:
        parts: which of PARTS to do.
        jobs: proofs side by side; else as many as the smoke profile says.
        fresh: prove even what was proved before with the same content.
    """
    jobs = jobs or manifest.profile(PROFILE).jobs
    started = time.monotonic()
    cancel = threading.Event()
    work = _updates(manifest, notebooks, cancel) if update else _proofs(manifest, notebooks, parts, fresh, cancel)
    if not work:
        say("nothing to update: no checked cell here" if update else "nothing to test here")
        return []
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        pending: set[Future[Outcome]] = {pool.submit(task) for task in work}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    outcomes.append(future.result())
                    say(str(outcomes[-1]))
        except BaseException:
            cancel.set()
            pool.shutdown(cancel_futures=True)
            raise
    problems = [message for outcome in outcomes for message, _ in outcome.problems]
    say(_total(outcomes, time.monotonic() - started, jobs))
    return problems


def _proofs(
    manifest: Manifest, notebooks: Sequence[Notebook], parts: Collection[str], fresh: bool, cancel: Flag
) -> list[Callable[[], Outcome]]:
    """The proofs, those first that take longest."""
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise CourseError(f"unknown part {min(unknown)!r} (known: {', '.join(PARTS)})")
    proofs = (
        ("wrong", ("solution",), prove_wrong_answers),
        ("outputs", ("lecture", "solution"), nbval_suite),
        ("lab", ("lab",), prove_lab),
    )
    for notebook in notebooks:  # what is missing or broken is told before anything runs
        read_notebook(notebook.path, notebook.relative)
        parameters(notebook)
        read_wrong(notebook)
    proved = Proved(manifest)

    def prove(prover: Callable[[Manifest, Notebook, Flag], Outcome], part: str, notebook: Notebook) -> Outcome:
        known = None if fresh else proved.get(part, notebook)
        if known is not None:
            return known
        before = proved.key(part, notebook)
        outcome = prover(manifest, notebook, cancel)
        if not cancel.is_set():
            proved.put(outcome, before)
        return outcome

    return [
        partial(prove, prover, part, notebook)
        for part, kinds, prover in proofs
        for notebook in notebooks
        if part in parts and notebook.kind in kinds and not (part == "outputs" and _covered_by_trials(notebook, parts))
    ]


def _covered_by_trials(notebook: Notebook, parts: Collection[str]) -> bool:
    """Whether a notebook without outputs to compare runs whole in the proof of its wrong answers."""
    cells = read_notebook(notebook.path, notebook.relative)["cells"]
    nbvals = any({CHECKED, "raises-exception", "nbval-skip"} & set(tags(cell)) for cell in cells) or any(
        unstored(cells)
    )
    return "wrong" in parts and not nbvals and bool(read_wrong(notebook))


def _updates(manifest: Manifest, notebooks: Sequence[Notebook], cancel: Flag) -> list[Callable[[], Outcome]]:
    work: list[Callable[[], Outcome]] = []
    for notebook in notebooks:
        if notebook.kind == "lab":
            continue
        cells = read_notebook(notebook.path, notebook.relative)["cells"]
        if any(CHECKED in tags(cell) for cell in cells):
            work.append(partial(update_outputs, manifest, notebook, cancel))
    return work


def _total(outcomes: Sequence[Outcome], seconds: float, jobs: int) -> str:
    """The last line: the verdict, the time, and each part's share of it."""
    problems = sum(len(outcome.problems) for outcome in outcomes)
    spent = {part: sum(outcome.wall_seconds for outcome in outcomes if outcome.part == part) for part in PARTS}
    whole = sum(spent.values())
    shares = ", ".join(f"{PARTS[part]} {100 * spent[part] / whole:.0f} %" for part in PARTS if spent[part])
    proofs = f"{len(outcomes)} {'proof' if len(outcomes) == 1 else 'proofs'}"
    verdict = f"{problems} {'problem' if problems == 1 else 'problems'} in {proofs}" if problems else proofs
    same = sum(outcome.cached for outcome in outcomes)
    before = f", {same} of them as before (--fresh proves them again)" if same else ""
    return f"{verdict}{before}: {seconds:.0f} s, {jobs} at a time{f' ({shares})' if shares else ''}"
