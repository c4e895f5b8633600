"""`course calibrate`: a notebook over seeds, its values kept in `calibration/`, its bands proposed from them.

A run is stored as it ends, so that an interrupted calibration goes on where it was, and a further seed runs alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course import bands
from course.errors import CourseError
from course.execution.cache import Cache, Key
from course.execution.run import request
from course.execution.worker import Flag, spawn
from course.files import write_atomically
from course.manifest import MANIFEST, Manifest, Notebook, Profile
from course.notebook import read_notebook
from course.outcome import Result, limits, number
from course.parameters import notebook_parameters, resolve
from course.reporting.progress import clock, why

SEED = "seed"


@dataclass(frozen=True)
class Task:
    """A notebook to run with one seed, `again` where that was measured with other code."""

    notebook: Notebook
    seed: int
    parameters: dict[str, Any]
    key: Key
    again: bool


@dataclass(frozen=True)
class Proposal:
    """What the stored values of a metric carry. `band` is None with fewer than two seeds, `now` without a band so
    far."""

    notebook: Notebook
    metric: str
    values: list[float]
    now: tuple[float, float] | None
    band: tuple[float, float] | None
    warning: str = ""

    def __str__(self) -> str:
        shown = ", ".join(number(value) for value in sorted(self.values))
        line = f"  {self.metric}: {shown if len(set(self.values)) > 1 else number(self.values[0]) + ' with every seed'}"
        if self.band is None:
            return f"{line}: one seed carries no band"
        now = "none" if self.now is None else limits(self.now)
        return f"{line}: band {limits(self.band)} (now {now})" + (f"; {self.warning}" if self.warning else "")


def calibrate(
    manifest: Manifest,
    notebooks: Sequence[Notebook],
    profile: Profile,
    seeds: Sequence[int],
    jobs: int = 1,
    write: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Run what is not stored yet, propose bands, and write them into course.toml if `write`. The failures, a line each.

    A stored run counts while the notebook, with everything that it imports, is what it was: one band is measured with
    one code. Where that has changed, a seed that was measured before runs first. If it records the same values, times
    apart, the older runs of the other seeds still count; if not, they are dropped."""

    def missing() -> list[Task]:
        return [task for notebook in notebooks for task in _tasks(manifest, notebook, profile, seeds)]

    tasks = missing()
    known = len(seeds) * len(notebooks) - len(tasks)
    say(f"{len(tasks)} runs in profile {profile.name}" + (f", {known} stored before" if known else ""))
    trials = {task.notebook: task for task in reversed(tasks) if task.again}
    failures = _run_all(list(trials.values()), profile, jobs, manifest.is_timed, say)
    tasks = [task for task in missing() if task.notebook not in trials or task.seed != trials[task.notebook].seed]
    failures += _run_all(tasks, profile, jobs, manifest.is_timed, say)
    proposals = [each for notebook in notebooks for each in propose(manifest, notebook, profile)]
    for notebook in notebooks:
        own = [each for each in proposals if each.notebook is notebook]
        count = max((len(each.values) for each in own), default=0)
        say(f"{notebook.id}: {count} {'seed' if count == 1 else 'seeds'}")
        for each in own:
            say(str(each))
    if write:
        changed = write_bands(manifest, profile, proposals)
        say(f"{changed} {'band' if changed == 1 else 'bands'} changed in {MANIFEST}")
    return failures


def _tasks(manifest: Manifest, notebook: Notebook, profile: Profile, seeds: Sequence[int]) -> list[Task]:
    own = notebook.overrides(profile.name)
    cache = Cache(manifest.root, profile)
    key = cache.key(notebook, resolve(notebook.path, own, notebook.relative))
    runs = [run for run in bands.read_runs(notebook) if run.profile == profile.name]
    stored = {run.seed for run in runs if cache.content(key, run.files) == run.content}
    code = read_notebook(notebook.path, notebook.relative)["cells"]
    defaults = {name: parameter.default for name, parameter in notebook_parameters(code, notebook.relative).items()}
    tasks = []
    for seed in seeds:
        parameters = resolve(notebook.path, {**own, SEED: seed}, notebook.relative)
        if seed == {**defaults, **own}[SEED]:  # the same run as that of `course run`, in the same words
            parameters = resolve(notebook.path, own, notebook.relative)
        if seed not in stored:
            tasks.append(Task(notebook, seed, parameters, key, again=any(run.seed == seed for run in runs)))
    return tasks


def _run_all(
    tasks: Sequence[Task],
    profile: Profile,
    jobs: int,
    is_timed: Callable[[str], bool],
    say: Callable[[str], None],
) -> list[str]:
    """Run them, `jobs` at a time, and store each as it ends."""
    cancel = threading.Event()
    failures = []
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        running = {pool.submit(_run, task, profile, cancel): task for task in tasks}
        pending = set(running)
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    task, result = running[future], future.result()
                    line = f"{task.notebook.id}  seed {task.seed}  {_store(task, profile, result, is_timed)}"
                    if result.status != "passed":
                        failures.append(line)
                    say(line)
        except BaseException:
            cancel.set()
            pool.shutdown(cancel_futures=True)
            raise
    return failures


def _run(task: Task, profile: Profile, cancel: Flag) -> Result:
    """From the cache, or new. With the seed that `course run` takes the run is the same: one serves both."""
    cache, began = Cache(task.notebook.root, profile), time.time()
    key = cache.key(task.notebook, task.parameters)
    if (entry := cache.get(task.notebook, key)) is not None:
        return entry.result
    result, executed = spawn(request(task.notebook, profile, task.parameters), cancel=cancel)
    if result.status == "passed" and result.unreadable:
        name, text = next(iter(result.unreadable.items()))
        result.status = "failed"
        result.error = {
            "name": "ValueError",
            "value": f"metric {name}: expected a finite number, but a cell recorded {text}",
        }
    elif executed is not None and key.name == task.key.name:
        cache.put(task.notebook, key, result, executed, began)
    return result


def _store(task: Task, profile: Profile, result: Result, is_timed: Callable[[str], bool]) -> str:
    """Store a run that passed; how it ended, in words."""
    after = clock(result.wall_seconds)
    if result.status != "passed":
        return f"{result.status} after {after}: {why(result.error or {})}"
    root = task.notebook.root
    files = [os.path.relpath(path, root) for path in sorted(result.files) if Path(path).is_relative_to(root)]
    content = Cache(root, profile).content(task.key, files)
    run = bands.Run(profile.name, task.seed, content, files, result.metrics, result.versions)
    gone = bands.store_run(task.notebook, run, is_timed)
    dropped = f"; {len(gone)} runs of older code dropped" if gone else ""
    return f"passed in {after}, {result.cpu_seconds:.0f} CPU seconds{dropped}"


def propose(manifest: Manifest, notebook: Notebook, profile: Profile) -> list[Proposal]:
    """A band for each metric of course.toml that the stored runs of this profile recorded."""
    values = bands.values_of(bands.read_runs(notebook), profile.name)
    proposals = []
    for metric, now in notebook.bands(profile.name).items():
        if metric not in values:
            continue
        own, span = values[metric], manifest.range_of(metric)
        band = bands.proposed(own, span) if len(own) > 1 else None
        nothing = bands.says_nothing(band, span) if band else ""
        warning = f"it {nothing}: its sentence must go, or it needs more seeds" if nothing else ""
        proposals.append(Proposal(notebook, metric, own, now, band, warning))
    return proposals


def write_bands(manifest: Manifest, profile: Profile, proposals: Sequence[Proposal]) -> int:
    """Put the bands into course.toml, which keeps its comments and its layout; how many have changed."""
    import tomlkit

    path = manifest.root / MANIFEST
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    changed = 0
    for each in proposals:
        if each.band is None or each.band == each.now:
            continue
        topic = next(topic for topic in document["topics"] if topic["name"] == each.notebook.stem)
        metrics = topic[each.notebook.kind]["metrics"]
        band = [int(bound) if bound.is_integer() else bound for bound in each.band]
        if isinstance(metrics[each.metric], dict):
            metrics[each.metric][profile.name] = band
        elif each.band[0] == each.band[1]:
            metrics[each.metric] = band  # the same with every seed: it served all profiles, and still does
        else:
            table = tomlkit.inline_table()
            for other in manifest.profiles:
                table[other] = band if other == profile.name else metrics[each.metric]
            metrics[each.metric] = table
        changed += 1
    if changed:
        write_atomically(path, tomlkit.dumps(document), manifest.root)
    return changed


def read_seeds(text: str) -> list[int]:
    """`5` is the seeds 0 to 4; `0,10,20` are these."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and len(part) < 10 for part in parts) or (len(parts) == 1 and int(text) < 1):
        raise CourseError(f"--seeds {text}: expected how many, such as 5, or which, such as 0,10,20")
    return list(range(int(text))) if len(parts) == 1 else sorted({int(part) for part in parts})
