"""`course run`: executes notebooks, each in a process of its own, and holds them against their budgets and bands.

Threads start the processes and wait for them; what has run before with the same content comes from the cache. Executed
notebooks and results lie in `build/run/<profile>/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from course.errors import CourseError
from course.execution.cache import DATA_FOLDERS, Cache, Key
from course.execution.worker import END_SECONDS, ExecutorLost, Flag, Progress, Request, spawn
from course.files import check_writable, write_atomically
from course.manifest import Manifest, Notebook, Profile
from course.notebook import read_notebook
from course.outcome import Outcome, Result, judge
from course.parameters import resolve

if TYPE_CHECKING:
    from rich.console import Console

CPU_LIMIT = 3  # a notebook may take this many times its budget in CPU seconds
WALL_LIMIT = 10  # and this many times its budget on the clock, which goes on while a busy machine serves others
LEAST_SECONDS = 60.0


class Execute(Protocol):
    """`course.execution.worker.spawn`, or something that does the same elsewhere."""

    def __call__(
        self, request: Request, on_progress: Progress | None = None, cancel: Flag | None = None
    ) -> tuple[Result, bytes | None]: ...


@dataclass
class Task:
    """A notebook to run."""

    notebook: Notebook
    parameters: dict[str, Any]
    key: Key
    expected_seconds: float  # on a clock, from an earlier run or from the budget


def run(
    manifest: Manifest,
    notebooks: Iterable[Notebook],
    profile: str | Profile,
    overrides: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    keep_going: bool = True,
    fresh: bool = False,
    console: Console | None = None,
    junit: str | Path | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    verbose: bool = False,
) -> list[Outcome]:
    """Execute the notebooks that have not passed with the same content before, and tell how each fared.

    Args:
        overrides: parameters on top of the profile's; values of class `course.parameters.Text` are read by their types.
        jobs: notebooks side by side; the profile's when None.
        keep_going: go on after a notebook has failed.
        fresh: run even what has passed before.
        junit: where to write JUnit XML; build/junit.xml when None.
        verbose: show metrics without a band too.

    Returns:
        one Outcome for each notebook, in their order; with `keep_going` false those that did not run are "cancelled".

    Raises:
        CourseError: for a parameter that is not as it should be, or when no notebook can be read, before anything is
            executed; for a folder or file that cannot be written; with code 130 or 143 after Ctrl-C or SIGTERM, when
            the processes have ended. One notebook among others that cannot be read or kept is a failed outcome.
    """
    from course.reporting import junit as xml
    from course.reporting.progress import Board

    chosen = profile if isinstance(profile, Profile) else manifest.profile(profile)
    notebooks = list(notebooks)
    execute = _executor(executor, scheduler)
    broken = _broken(notebooks)
    resolved = {
        notebook.id: _parameters(notebook, chosen, overrides or {})
        for notebook in notebooks
        if notebook.id not in broken
    }
    report = Path(junit) if junit is not None else manifest.root / "build" / "junit.xml"
    for path in (
        *(_result_path(each, chosen) for each in notebooks),
        manifest.root / "build" / "cache" / "runs" / "entry",
        report,
    ):
        check_writable(path, manifest.root)  # now rather than after the first notebook
    cache = Cache(manifest.root, chosen)
    started = time.time()
    outcomes: dict[str, Outcome] = {}
    tasks: list[Task] = []
    for notebook in notebooks:
        if notebook.id in broken:
            outcomes[notebook.id] = _failure(notebook, {}, broken[notebook.id])
            continue
        parameters = resolved[notebook.id]
        key = cache.key(notebook, parameters)
        entry = None if fresh else cache.get(notebook, key)
        if entry is None or judge(
            notebook, chosen, entry.result, parameters
        ):  # what leaves its budget or its band is no success
            tasks.append(Task(notebook, parameters, key, _expected(notebook, chosen)))
        else:
            outcomes[notebook.id] = Outcome(notebook, entry.result, [], True, parameters)
            _keep(chosen, outcomes[notebook.id], entry.notebook, entry.when)
    jobs = jobs if jobs is not None else chosen.jobs
    if jobs > 1:  # the long ones first, so that none is left alone at the end
        tasks.sort(key=lambda task: -task.expected_seconds)
    board = Board(notebooks, chosen, tasks, jobs, console, verbose)
    for outcome in outcomes.values():
        if outcome.cached:
            board.unchanged(outcome)
    if tasks:
        runner = _Runner(chosen, cache, execute, board, keep_going)
        outcomes.update(runner.run(tasks, jobs))
    ordered = [outcomes[notebook.id] for notebook in notebooks]
    board.summary(ordered)
    write_atomically(report, xml.document(ordered, manifest.title, chosen, started))
    return ordered


def _executor(name: str, scheduler: str | None) -> Execute:
    if name == "local":
        return spawn
    if name != "dask":
        raise CourseError(f"unknown executor {name!r} (known: local, dask)")
    from course.execution import dask

    return dask.connect(scheduler)


def _parameters(notebook: Notebook, profile: Profile, overrides: Mapping[str, Any]) -> dict[str, Any]:
    own = notebook.overrides(profile.name)
    origins = {name: f"parameters.{profile.name} in course.toml" for name in own if name not in overrides}
    return resolve(notebook.path, {**own, **overrides}, notebook.relative, origins)


def _broken(notebooks: list[Notebook]) -> dict[str, CourseError]:
    """The notebooks that cannot be read, by their ids, and why. Raises the first reason when that is all of them."""
    broken: dict[str, CourseError] = {}
    for notebook in notebooks:
        try:
            read_notebook(notebook.path, notebook.relative)
        except CourseError as error:
            broken[notebook.id] = error
    if broken and len(broken) == len(notebooks):
        raise next(iter(broken.values()))
    return broken


def _failure(notebook: Notebook, parameters: dict[str, Any], why: Exception) -> Outcome:
    """What stands for a notebook that could not be executed, or whose result could not be kept."""
    error = {"cell": None, "cell_id": None, "name": "CourseError", "value": str(why), "traceback": "", "source": ""}
    return Outcome(notebook, Result(str(notebook.path), "failed", error), [], False, parameters)


def _expected(notebook: Notebook, profile: Profile) -> float:
    try:
        seconds = json.loads(_result_path(notebook, profile).read_bytes())["wall_seconds"]
        return float(seconds)
    except (OSError, ValueError, TypeError, KeyError):
        return 60 * notebook.minutes(profile.name)


# ------------------------------------------------------------------------------------------- what lies in build/run


def _result_path(notebook: Notebook, profile: Profile) -> Path:
    return notebook.root / "build" / "run" / profile.name / f"{notebook.kind}s" / f"{notebook.stem}.json"


def _keep(profile: Profile, outcome: Outcome, executed: bytes | None, when: float) -> None:
    """Leave the result and the executed notebook for the report, with the time at which it ran."""
    path = _result_path(outcome.notebook, profile)
    content = {
        **asdict(outcome.result),
        "notebook": outcome.notebook.relative,
        "cached": outcome.cached,
        "parameters": outcome.parameters,
        "problems": outcome.problems,
        "profile": profile.name,
        "when": when,
    }
    del content["files"]  # for the cache alone
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True, default=repr) + "\n"
    if executed is None:  # what lies there is of an earlier run
        path.with_suffix(".ipynb").unlink(missing_ok=True)
    for place, data in ((path.with_suffix(".ipynb"), executed), (path, text.encode("utf-8", "surrogatepass"))):
        if data is not None and _content(place) != data:
            write_atomically(place, data, outcome.notebook.root)
            with contextlib.suppress(OSError):
                os.utime(place, (when, when))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


# --------------------------------------------------------------------------------------------------- side by side


@dataclass(frozen=True)
class Event:
    """What a thread tells the one that runs the show."""

    task: Task
    kind: str  # "start", "progress", "end", "broken"
    progress: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None
    error: BaseException | None = None


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


class _Runner:
    """Threads that each run one notebook after the other."""

    def __init__(self, profile: Profile, cache: Cache, execute: Execute, board: Any, keep_going: bool) -> None:
        self.profile = profile
        self.cache = cache
        self.execute = execute
        self.board = board
        self.keep_going = keep_going
        self.cancel = threading.Event()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.outcomes: dict[str, Outcome] = {}

    def run(self, tasks: list[Task], jobs: int) -> dict[str, Outcome]:
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        threads = [
            threading.Thread(target=self._work, args=(waiting,), name=f"notebooks-{number}", daemon=True)
            for number in range(max(1, min(jobs, len(tasks))))
        ]
        broken: BaseException | None = None
        try:
            with _terminated(), self.board:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads) or not self.events.empty():
                    with contextlib.suppress(queue.Empty):
                        broken = self._take(self.events.get(timeout=0.2)) or broken
        except KeyboardInterrupt as interrupt:
            self._stop(threads)
            whole = len(tasks)
            done = sum(outcome.result.status != "cancelled" for outcome in self.outcomes.values())
            name, code = ("terminated", 143) if isinstance(interrupt, Terminated) else ("interrupted", 130)
            kept = "what has passed is kept, and the next run goes on from there"
            message = f"{name} after {done} of {whole} notebooks; {kept}"
            raise CourseError(message, code) from None
        if broken is not None:
            raise broken
        for task in tasks:
            self.outcomes.setdefault(task.notebook.id, _cancelled(task))
        return self.outcomes

    def _stop(self, threads: list[threading.Thread]) -> None:
        self.cancel.set()
        deadline = time.monotonic() + 2 * END_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _take(self, event: Event) -> BaseException | None:
        """Tell the board; the error that stops everything, if this is one."""
        if event.kind == "start":
            self.board.start(event.task)
        elif event.kind == "progress":
            self.board.progress(event.task, event.progress)
        elif event.outcome is not None:
            self.board.end(event.task, event.outcome)
        elif event.error is not None:
            self.cancel.set()
            return event.error
        return None

    def _work(self, waiting: queue.SimpleQueue[Task]) -> None:
        while not self.cancel.is_set():
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                return
            self.events.put(Event(task, "start"))
            try:
                outcome = self._one(task)
            except BaseException as error:
                self.events.put(Event(task, "broken", error=error))
                return
            self.outcomes[task.notebook.id] = outcome  # here, since Ctrl-C may cost the other thread an event
            if not self.keep_going and not outcome.good:
                self.cancel.set()
            self.events.put(Event(task, "end", outcome=outcome))

    def _one(self, task: Task) -> Outcome:
        """Execute the notebook and keep what came of it; what goes wrong is this notebook's failure alone."""
        notebook, started = task.notebook, time.time()
        try:
            result, executed = self.execute(
                request(notebook, self.profile, task.parameters),
                lambda progress: self.events.put(Event(task, "progress", progress)),
                self.cancel,
            )
            problems = judge(notebook, self.profile, result, task.parameters)
            outcome = Outcome(notebook, result, problems, False, task.parameters)
            if result.status == "cancelled":
                return outcome
            now = self.cache.key(notebook, task.parameters)
            if outcome.good and executed is not None and now.content == task.key.content:
                self.cache.put(notebook, now, result, executed, started)
                entry = self.cache.get(notebook, now)
                if entry is not None:  # as the next run will leave it, so that the report's page of it stays as it is
                    executed = entry.notebook
            _keep(self.profile, outcome, executed, started)
        except ExecutorLost:
            raise
        except (CourseError, OSError) as error:
            outcome = _failure(notebook, task.parameters, error)
            with contextlib.suppress(CourseError, OSError):
                _keep(self.profile, outcome, None, started)
        return outcome


def request(notebook: Notebook, profile: Profile, parameters: Mapping[str, Any]) -> Request:
    """How this notebook is executed in this profile."""
    minutes = notebook.minutes(profile.name)
    environment = {name: os.path.abspath(os.environ[name]) for name in DATA_FOLDERS if os.environ.get(name)}
    if os.environ.get("KERAS_BACKEND"):  # an executor may be on another machine
        environment["KERAS_BACKEND"] = os.environ["KERAS_BACKEND"]
    return Request(
        notebook=str(notebook.path),
        parameters=dict(parameters),
        threads=profile.threads,
        cpu_seconds=max(LEAST_SECONDS, CPU_LIMIT * 120 * minutes),
        wall_seconds=max(LEAST_SECONDS, WALL_LIMIT * 60 * minutes),
        cwd=str(notebook.path.parent),
        environment=environment,
    )


def _cancelled(task: Task) -> Outcome:
    return Outcome(task.notebook, Result(str(task.notebook.path), "cancelled"), parameters=task.parameters)


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Within, SIGTERM ends the run as Ctrl-C does. Only the main thread can be told of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        raise Terminated

    before: Callable[[int, Any], Any] | int | None = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
