"""What `course run` shows: a moving picture on a terminal, plain lines elsewhere, and a table at the end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from course.errors import CourseError
from course.manifest import Notebook, Profile
from course.notebook import read_notebook
from course.outcome import GIGABYTE, limits, number

WIDTH = 120  # where there is no terminal that has one
FRAME_LINES = 20  # of a traceback
OWN_ERRORS = ("DataUnavailable",)  # errors of `utils` whose message is a line that says all there is to say
STATUS = {
    "passed": "passed",
    "failed": "failed",
    "timeout": "too slow",
    "died": "kernel died",
    "flooded": "endless output",
    "cancelled": "not run",
}


class Board:
    """Told by the runner of each start, cell and end."""

    def __init__(
        self,
        notebooks: list[Notebook],
        profile: Profile,
        tasks: list[Any],
        jobs: int,
        console: Console | None,
        verbose: bool = False,
    ) -> None:
        self.console = console if console is not None else _console()
        self.profile = profile
        self.verbose = verbose  # metrics without a band too
        self.jobs = jobs
        self.waiting = {task.notebook.id: task for task in tasks}
        self.running: dict[str, tuple[Any, float, dict[str, Any]]] = {}
        self.whole = len(tasks)
        self.width = max((len(notebook.id) for notebook in notebooks), default=0)
        self.live: Live | None = None

    def __enter__(self) -> Board:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(console=self.console, get_renderable=self._picture, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def unchanged(self, outcome: Any) -> None:
        self.say(f"{outcome.notebook.id:{self.width}}  unchanged since it passed", "dim")

    def start(self, task: Any) -> None:
        self.waiting.pop(task.notebook.id, None)
        self.running[task.notebook.id] = (task, time.monotonic(), {})
        if self.live is None:
            self.say(f"{task.notebook.id:{self.width}}  started, takes about {clock(task.expected_seconds)}")

    def progress(self, task: Any, progress: dict[str, Any]) -> None:
        if task.notebook.id in self.running:
            self.running[task.notebook.id] = (*self.running[task.notebook.id][:2], progress)

    def end(self, task: Any, outcome: Any) -> None:
        self.running.pop(task.notebook.id, None)
        if outcome.result.status != "cancelled":
            self.say(f"{outcome.notebook.id:{self.width}}  {ending(outcome)}", _style(outcome))

    def seconds_left(self) -> float:
        """About how long the rest takes, by earlier runs or, where there is none, by the budgets."""
        now = time.monotonic()
        running = [max(0.0, task.expected_seconds - (now - since)) for task, since, _ in self.running.values()]
        left = sum(running) + sum(task.expected_seconds for task in self.waiting.values())
        return max([left / max(1, self.jobs), *running])

    def _picture(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for task, since, progress in list(self.running.values()):
            done, cells = progress.get("cell", 0), progress.get("cells", 0)
            place = f"cell {done + 1} of {cells}" if cells else "starting"
            passed = f"{clock(now - since)} of about {clock(task.expected_seconds)}"
            grid.add_row(task.notebook.id, place, passed, Text(progress.get("heading", ""), "dim", no_wrap=True))
        done = self.whole - len(self.waiting) - len(self.running)
        left = f"about {clock(self.seconds_left())} left"
        return Group(grid, Text(f"{done} of {self.whole} notebooks done, {left}", "bold"))

    def summary(self, outcomes: list[Any]) -> None:
        """The table, and in words what is wrong."""
        table = Table()
        for name in ("notebook", "status", "minutes", "memory (GB)", "metrics"):
            table.add_column(name, justify="right" if name in ("minutes", "memory (GB)") else "left", overflow="fold")
        for outcome in outcomes:
            table.add_row(*(Text(text, style) for text, style in self._row(outcome)))
        if outcomes:
            self.say(f"Profile {self.profile.name}: {self.profile.about}", "bold")
            self.console.print(table)
            self.say(
                "minutes: CPU seconds / 120, of the budget: what two busy cores would need, whatever the clock says",
                "dim",
            )
        for outcome in outcomes:
            for line in explain(outcome, self.profile):
                self.say(line)

    def _row(self, outcome: Any) -> list[tuple[str, str]]:
        notebook, result, name = outcome.notebook, outcome.result, self.profile.name
        status = "attention" if result.status == "passed" and outcome.problems else STATUS[result.status]
        ran = result.status != "cancelled"
        minutes, memory = result.cpu_seconds / 120, result.peak_rss_bytes / GIGABYTE
        budget, most = notebook.minutes(name), notebook.memory_gb(name)
        bands, other = notebook.bands(name, outcome.parameters), notebook.on_other_data(name, outcome.parameters)
        expected = bands if result.status == "passed" else {}  # cells after the one that failed recorded nothing
        metrics = [
            _metric(metric, result.metrics.get(metric), bands.get(metric))
            for metric in {**expected, **result.metrics}
            if self.verbose or other or bands.get(metric) is not None or (metric in bands) != (metric in result.metrics)
        ]
        if other and metrics:
            metrics.append("not judged on other data")
        return [
            (notebook.id, ""),
            (f"{status} (earlier)" if outcome.cached else status, _style(outcome)),
            (f"{minutes:.2f} of {budget:g}" if ran else f"of {budget:g}", "red" if minutes > budget else ""),
            (f"{memory:.2f} of {most:g}" if ran else f"of {most:g}", "red" if memory > most else ""),
            ("\n".join(metrics) if ran else "", ""),
        ]


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(WIDTH, console.width))


def _style(outcome: Any) -> str:
    return "green" if outcome.good else "dim" if outcome.result.status == "cancelled" else "bold red"


def _metric(name: str, value: float | None, band: tuple[float, float] | None) -> str:
    text = f"{name} {'missing' if value is None else number(value)}"
    if band is None:
        return text
    return f"{text}, {'within' if _inside(value, band) else 'NOT within'} {limits(band)}"


def _inside(value: float | None, band: tuple[float, float]) -> bool:
    return value is not None and band[0] <= value <= band[1]


def clock(seconds: float) -> str:
    seconds = round(seconds)
    return f"{seconds} s" if seconds < 100 else f"{seconds // 60}:{seconds % 60:02d} min"


def ending(outcome: Any) -> str:
    """One line: how it ended, after how long, and why if it failed."""
    result = outcome.result
    after = clock(result.wall_seconds)
    if result.status == "passed":
        return f"passed in {after}" + (f", but {'; '.join(outcome.problems)}" if outcome.problems else "")
    return f"{STATUS[result.status]} after {after}: {why(result.error or {})}"


def why(error: dict[str, Any]) -> str:
    """The error in one line, with its place."""
    cell = error.get("cell")
    place = "" if cell is None else f"cell {cell + 1}: "
    first = str(error.get("value", "")).strip().split("\n")[0]
    name = error.get("name", "")
    if name in ("Timeout", "Flooded", "KernelDied", "KernelDidNotStart", "ProcessDied", *OWN_ERRORS):
        return place + first
    return place + (f"{name}: {first}" if first else str(name))


def explain(outcome: Any, profile: Profile) -> list[str]:
    """What is wrong with this notebook, in words, and how to see it again. Nothing when all is well or it did not
    run."""
    result, notebook = outcome.result, outcome.notebook
    if outcome.good or result.status == "cancelled":
        return []
    if result.status == "passed":
        return ["", f"{notebook.id}: {notebook.relative}", *(f"  {problem}" for problem in outcome.problems)]
    error = result.error or {}
    lines = [
        "",
        f"{notebook.id}: {notebook.relative}: {STATUS[result.status]}{_place(notebook, error)}",
        f"  {why({**error, 'cell': None})}",
    ]
    trace = str(error.get("traceback", "")).rstrip().split("\n")
    if error.get("name") not in OWN_ERRORS and trace != [""]:
        if len(trace) > FRAME_LINES:
            trace = ["[...]", *trace[-FRAME_LINES:]]
        lines += [f"    {line}" for line in trace]
    own = notebook.overrides(profile.name)
    given = [(name, value) for name, value in outcome.parameters.items() if own.get(name) != value]
    options = "".join(f" -p {name} {_typed(value)}" for name, value in given)
    again = f"course run {notebook.id} --profile {profile.name}{options}"
    return [*lines, f"  to see it again: {again}; executed so far: build/run/{profile.name}/{notebook.relative}"]


def _place(notebook: Notebook, error: dict[str, Any]) -> str:
    """`in cell 12 [3f2a], under "Counting": history = model.fit(...)`."""
    cell = error.get("cell")
    if cell is None:
        return ""
    heading = ""
    try:
        for before in read_notebook(notebook.path, notebook.relative)["cells"][:cell]:
            if before["cell_type"] == "markdown":
                titles = [line.lstrip("# ") for line in before["source"].split("\n") if line.startswith("#")]
                heading = titles[-1] if titles else heading
    except CourseError:
        pass
    known = f" [{error['cell_id']}]" if error.get("cell_id") else ""
    under = f', under "{heading}"' if heading else ""
    return f" in cell {cell + 1}{known}{under}: {error.get('source', '')}"


def _typed(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}'" if " " in text or not text else text
