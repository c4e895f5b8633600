"""What `course grade` does: looks whether it can, grades, writes, and says what came out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from course.errors import CourseError
from course.grading import feedback, sandbox
from course.grading.batch import Batch, Task, executor
from course.grading.sandbox import Limits
from course.grading.score import shown
from course.manifest import Manifest, Notebook

WARNING = (
    "course: --no-sandbox: every submission runs with your rights on this machine and may read and change your files"
)


def grade(
    manifest: Manifest,
    folder: Path,
    labs: Sequence[Notebook],
    *,
    output: Path | None,
    jobs: int | None,
    own: Path | None,
    name: str,
    scheduler: str | None,
    boxed: bool,
    pages: bool,
    fresh: bool,
    cell_seconds: float,
    memory_gb: float,
    console: Console | None = None,
) -> int:
    """Grade a folder. The number of submissions that no mark could be given to.

    Raises:
        CourseError: no sandbox can be made here, the folder or a file of the instructor's is wrong.
    """
    console = console if console is not None else Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if not boxed:
        print(WARNING, file=sys.stderr)
    elif name == "local":
        why = sandbox.works()
        if why is not None:
            raise CourseError(why)
    limits = Limits(cell_seconds=cell_seconds, memory_bytes=int(memory_gb * 2**30), boxed=boxed)
    output = output if output is not None else manifest.root / "build" / "grades"
    batch = Batch(manifest, labs, output, own=own, limits=limits, pages=pages, fresh=fresh)
    tasks, others = batch.tasks(folder)
    if not tasks:
        raise CourseError(f"{folder}: no notebook (.ipynb) in it")
    if others:
        few = ", ".join(feedback.printable(other) for other in others[:5]) + (", ..." if len(others) > 5 else "")
        console.print(f"left out, no notebooks: {few}", markup=False)
    began, outcomes = time.monotonic(), Counter[str]()
    workers = jobs if jobs is not None else (os.cpu_count() or 1)
    with executor(name, scheduler) as grader, _progress(console, len(tasks)) as progress:
        row = progress.add_task("", total=len(tasks), last="")

        def done(task: Task, what: str) -> None:
            outcomes[what] += 1
            known = feedback.printable(task.submission.name)
            progress.update(row, advance=1, last=f"{known[:40]}: {what}")
            if not console.is_terminal:
                console.print(f"{known[:60]}  {task.release.name}  {what}", markup=False)

        try:
            batch.run(tasks, grader, workers, done)
        except KeyboardInterrupt:
            console.print(f"interrupted: {outcomes['graded']} graded now are kept; the same command goes on from there")
            raise
    summaries = batch.write(tasks)
    seconds = time.monotonic() - began
    counted = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    console.print(_table(batch, tasks))
    console.print(f"{len(tasks)} submissions in {seconds:.0f} s: {counted}", markup=False)
    for summary in summaries:
        console.print(str(summary), markup=False, soft_wrap=True)
    return outcomes["not graded"]


def _progress(console: Console, count: int) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[last]}", markup=False))
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _table(batch: Batch, tasks: Sequence[Task]) -> Table:
    """Per lab: how many, the mean, and what a person must look at."""
    table = Table("lab", "submissions", "mean", "of", "to look at", box=None)
    for release in batch.releases:
        path = batch.folder(release) / "grades.json"
        own = [task for task in tasks if task.release is release]
        if own:
            told = json.loads(path.read_text(encoding="utf-8"))["submissions"]
            totals = [Fraction(one["total"]) for one in told]
            mean = float(sum(totals, Fraction(0)) / len(totals))
            waiting = sum(bool(one["open"]) for one in told)
            table.add_row(release.name, str(len(own)), f"{mean:.1f}", shown(release.total), str(waiting))
    return table
