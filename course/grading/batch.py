"""A folder of submissions: who is graded, by whom, what is kept, and what is written at the end."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from course.errors import CourseError
from course.files import write_atomically
from course.grading import feedback, rebuild, score, similarity
from course.grading.bench import PACKAGE, UTILITIES, Bench, judge_template
from course.grading.rebuild import Submission
from course.grading.release import Release
from course.grading.sandbox import Limits
from course.grading.score import Marks
from course.grading.withholding import withheld
from course.manifest import Manifest, Notebook

FORMAT = 1  # counts up when what a kept verdict holds, or what a mark means, changes
SKIPPED_FOLDERS = {".ipynb_checkpoints", "__MACOSX", "__pycache__"}


@dataclass(frozen=True)
class Job:
    """What an executor needs to grade one submission: data, no file of this machine."""

    name: str
    lab: str
    program: list[dict[str, Any]]
    notebook: dict[str, Any] | None
    parameters: dict[str, Any]
    withheld: dict[str, list[str]]
    limits: Limits


@dataclass(frozen=True)
class Task:
    submission: Submission
    release: Release
    key: str


class Executor(Protocol):
    """Grades jobs, any number at a time; each call takes one and waits for its outcome: `verdict` and `executed`."""

    def __call__(self, job: Job) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Local:
    """Grades on this machine. Templates are started with the first job of a lab."""

    def __init__(self) -> None:
        self._judges: Any = None
        self._benches: dict[str, Bench] = {}
        self._lock = threading.Lock()

    def __call__(self, job: Job) -> dict[str, Any]:
        bench = self._bench(job)
        verdict = bench.judge(job.program)
        executed = bench.execute(job.notebook, job.parameters) if job.notebook is not None else None
        return {"verdict": verdict, "executed": executed}

    def _bench(self, job: Job) -> Bench:
        key = json.dumps([job.lab, job.withheld, job.limits.as_dict()], sort_keys=True)
        with self._lock:
            if self._judges is None:
                self._judges = judge_template(job.limits.boxed)
            if key not in self._benches:
                self._benches[key] = Bench(job.withheld, self._judges, job.limits)
            return self._benches[key]

    def close(self) -> None:
        for bench in self._benches.values():
            bench.close()
        if self._judges is not None:
            self._judges.close()


# ------------------------------------------------------------------------------------------------------ submissions


def find(folder: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """(path, name) of every notebook below a folder, in order of their names; and what else lies there."""
    if not folder.is_dir():
        raise CourseError(f"{folder}: no such folder of submissions")
    found, others = [], []
    for here, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for name in files:
            path = Path(here, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() == ".ipynb":
                found.append((path, str(path.relative_to(folder).with_suffix(""))))
            else:
                others.append(str(path.relative_to(folder)))
    return sorted(found, key=lambda pair: pair[1]), sorted(others)


def assign(path: Path, releases: Sequence[Release]) -> Release:
    """The release that a submission belongs to: that with most of its gaps in it; the first when it has none."""
    if len(releases) == 1:
        return releases[0]
    names = rebuild.gaps_named(path)
    return max(releases, key=lambda release: len(names & {gap.name for gap in release.gaps}))


# ------------------------------------------------------------------------------------------------------ the whole run


class Batch:
    """One run of the grader.

    Args:
        output: where marks, pages and kept verdicts go, a folder per lab.
        pages: whether each notebook is executed for its student's page.
    """

    def __init__(
        self,
        manifest: Manifest,
        labs: Sequence[Notebook],
        output: Path,
        *,
        own: Path | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        pages: bool = True,
        fresh: bool = False,
    ) -> None:
        self.manifest, self.output, self.limits, self.pages, self.fresh = manifest, output, limits, pages, fresh
        self.releases = [Release(manifest, lab, own) for lab in labs]
        self._withheld = {release.name: withheld(release, UTILITIES) for release in self.releases}
        self._code = _code_digest()
        self._gaps = {
            lab.stem: [gap.name for gap in release.gaps] for lab, release in zip(labs, self.releases)
        } | _other_gaps(manifest, labs)

    def folder(self, release: Release) -> Path:
        return self.output / release.name

    def tasks(self, folder: Path) -> tuple[list[Task], list[str]]:
        """A task for each submission, and the files that are none."""
        found, others = find(folder)
        tasks = []
        for path, name in found:
            release = assign(path, self.releases)
            known = {lab: gaps for lab, gaps in self._gaps.items() if lab != release.name}
            submission = rebuild.read(path, name, release, known)
            tasks.append(Task(submission, release, self._key(submission, release)))
        return tasks, others

    def _key(self, submission: Submission, release: Release) -> str:
        answers = [submission.answers, release.fingerprint(), self._withheld[release.name], self.limits.as_dict()]
        content = json.dumps([FORMAT, self._code, answers, self.pages], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def job(self, task: Task) -> Job:
        release, answers = task.release, task.submission.answers
        notebook = None
        if self.pages:
            notebook = rebuild.rebuilt(release, answers)
        program = release.program(answers)
        held = self._withheld[release.name]
        return Job(task.submission.name, release.name, program, notebook, release.parameters, held, self.limits)

    def run(
        self,
        tasks: Sequence[Task],
        executor: Executor,
        jobs: int,
        on_done: Callable[[Task, str], None] = lambda *_: None,
    ) -> None:
        """Grade what is not kept yet. A failure of one submission is that submission's; an interruption keeps what is
        done.
        """
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        seen: set[str] = set()
        lock, stop = threading.Lock(), threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            while not stop.is_set():
                try:
                    task = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    with lock:
                        twin = task.key in seen
                        seen.add(task.key)
                    on_done(task, "the same" if twin else self._one(task, executor))
                except CourseError as error:  # the grader itself cannot go on: no sandbox, no disk
                    failures.append(error)
                    stop.set()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(jobs, len(tasks))))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        except BaseException:
            stop.set()
            raise
        if failures:
            raise failures[0]

    def _one(self, task: Task, executor: Executor) -> str:
        if task.submission.problem is not None or not task.submission.answers:
            return "nothing to run"
        path = self._kept(task)
        if not self.fresh and self.kept(task) is not None:
            return "kept"
        try:
            outcome = executor(self.job(task))
        except CourseError:
            raise
        except Exception as error:  # one bad submission never stops the batch
            problem = f"{type(error).__name__}: {error}"
            outcome = {"verdict": {"checks": {}, "gaps": {}, "problem": problem, "restarts": 0}, "executed": None}
        if outcome["verdict"]["problem"] is None:
            write_atomically(path, json.dumps(outcome))
            return "graded"
        write_atomically(path.with_suffix(".failed"), json.dumps(outcome))
        return "not graded"

    def _kept(self, task: Task) -> Path:
        return self.folder(task.release) / "kept" / f"{task.key}.json"

    def kept(self, task: Task) -> dict[str, Any] | None:
        """What is kept of a task, if it is whole."""
        try:
            told = json.loads(self._kept(task).read_text(encoding="utf-8"))
            return told if told["verdict"]["problem"] is None else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def outcome(self, task: Task) -> dict[str, Any]:
        """What is known of a task, a failure of the grader included."""
        if task.submission.problem is not None or not task.submission.answers:
            return {"verdict": None, "executed": None}
        kept = self.kept(task)
        if kept is None:
            try:
                kept = json.loads(self._kept(task).with_suffix(".failed").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                kept = {"verdict": {"checks": {}, "gaps": {}, "problem": "was not reached"}, "executed": None}
        assert isinstance(kept, dict)
        return kept

    # ---------------------------------------------------------------------------------------------- what is written

    def write(self, tasks: Sequence[Task]) -> list[Path]:
        """Tables, pages and summary of every lab, from what is kept. The paths of the summaries.

        Raises:
            CourseError: the file of overrides is wrong; nothing is written then.
        """
        by_lab = {release.name: [task for task in tasks if task.release is release] for release in self.releases}
        overrides = {release.name: self._overrides(release, by_lab[release.name]) for release in self.releases}
        written = []
        for release in self.releases:
            if by_lab[release.name] or len(self.releases) == 1:
                written.append(self._write(release, by_lab[release.name], overrides[release.name]))
        return written

    def _overrides(self, release: Release, tasks: Sequence[Task]) -> dict[str, dict[str, score.Override]]:
        items = {gap.name: release.worth(gap.name) for gap in release.gaps}
        items |= {question.name: question.points for question in release.questions}
        known = {feedback.printable(task.submission.name): items for task in tasks}
        return score.read_overrides(self.folder(release) / "overrides.csv", known)

    def marks(self, task: Task, overrides: Mapping[str, Mapping[str, score.Override]], verdict: Any) -> Marks:
        name = feedback.printable(task.submission.name)
        return score.mark(task.submission, task.release, verdict, overrides.get(name, {}))

    def _write(
        self, release: Release, tasks: Sequence[Task], overrides: Mapping[str, Mapping[str, score.Override]]
    ) -> Path:
        folder = self.folder(release)
        table: list[Marks] = []
        for task in tasks:  # one at a time: outputs are large, marks are small
            outcome = self.outcome(task)
            marks = self.marks(task, overrides, outcome["verdict"])
            table.append(marks)
            page = feedback.student_page(release, task.submission, marks, outcome["executed"])
            write_atomically(folder / "feedback" / f"{feedback.slug(task.submission.name)}.html", page)
        answers = {task.submission.name: task.submission.answers for task in tasks}
        pairs = similarity.similar(release, answers)
        write_atomically(folder / "grades.csv", feedback.grades_csv(release, table))
        write_atomically(folder / "grades.json", feedback.grades_json(release, table, pairs))
        if not (folder / "overrides.csv").exists():
            write_atomically(folder / "overrides.csv", ",".join(score.HEADING) + "\n")
        write_atomically(folder / "summary.html", feedback.summary_page(release, table, pairs))
        return folder / "summary.html"


def _other_gaps(manifest: Manifest, labs: Sequence[Notebook]) -> dict[str, list[str]]:
    """Gaps of the labs that are not graded now, to recognise their notebooks."""
    found = {}
    for other in manifest.notebooks(("lab",)):
        if other.stem not in {lab.stem for lab in labs} and other.path.is_file():
            found[other.stem] = sorted(rebuild.gaps_named(other.path))
    return found


def _code_digest() -> str:
    """Changes with everything installed here that a verdict depends on: the grader, and `utils`."""
    found = hashlib.sha256()
    for folder in (PACKAGE / "grading", UTILITIES):
        for path in sorted(folder.rglob("*.py")):
            found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


@contextmanager
def executor(name: str, scheduler: str | None) -> Iterator[Executor]:
    """The executor of that name, closed at the end."""
    with ExitStack() as stack:
        made: Executor
        if name == "dask":
            from course.grading.dask import connect

            made = connect(scheduler)
        else:
            made = Local()
        stack.callback(made.close)
        yield made
