"""`pytest --nbval-lax` on one prepared notebook, inside the process that runs it: an executor for
`course.execution.worker`.

nbval is pytest's plugin for notebooks: it runs every cell and compares the outputs of those tagged `nbval-check-output`
with the stored ones. It is used as its users do; a plugin of pytest's notes how each cell ended.
"""

from __future__ import annotations

import difflib
import os
import signal
import time
from typing import Any

import pytest

from course.execution import client
from course.execution.inkernel import output as guard
from course.execution.worker import START_SECONDS, Execution
from course.outcome import CellResult

DIFFERS = "prints something else than is stored"
MOST_LINES = 10


class Suite:
    """The plugin: one `CellResult` for each cell, and no cell after one that raises, which would only fail with it."""

    def __init__(self, execution: Execution, nb: Any) -> None:
        self.execution = execution
        self.nb = nb
        self.places = client.places(nb.cells)
        self.code = [index for index, cell in enumerate(nb.cells) if cell.cell_type == "code"]
        self.now: CellResult | None = None
        self.began = 0.0
        self.said = ""
        execution.watch.on_death = guard.interrupt_main  # nbval would wait for its answer until the limit

    def _begin(self, index: int) -> CellResult:
        place = self.places[index] if self.places[index] is not None else self.places[index - 1]
        assert place is not None
        total = sum(place is not None for place in self.places)
        self.execution.tell({"progress": {"cell": place, "cells": total, "heading": ""}})
        self.began = time.monotonic()
        return CellResult(place, self.nb.cells[index].get("id", ""), "passed")

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.said = str(report.longrepr).strip().splitlines()[-1]

    def pytest_runtest_setup(self, item: Any) -> None:
        self.now = self._begin(self.code[item.cell_num])
        self.execution.watch.cell_began()

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """After set-up, run and end of each cell: here the cell and its outputs are at hand."""
        error = None if call.excinfo is None else call.excinfo.value
        if self.now is None or (call.when != "call" and error is None):
            return
        if error is not None and type(error).__name__ != "Skipped":
            self._fail(self.now, item, error)
        self._end()
        if error is not None and self.execution.status != "passed" and self.execution.cells[-1].message != DIFFERS:
            item.session.shouldstop = "a cell failed"

    def _fail(self, cell: CellResult, item: Any, error: BaseException) -> None:
        outputs = getattr(item, "test_outputs", None) or []
        raised = next((output for output in outputs if output["output_type"] == "error"), None)
        cell.status, cell.message = "failed", str(error).strip() or type(error).__name__
        if raised is not None:
            cell.name, cell.message = raised["ename"], client.plain(raised["evalue"])
            cell.traceback = client.plain_traceback(raised["traceback"])
        elif cell.message == "Cell outputs differ":
            cell.message, cell.traceback = DIFFERS, compared_lines(_text(item.cell.outputs), _text(outputs))

    def _end(self) -> None:
        cell, watch = self.now, self.execution.watch
        assert cell is not None
        self.now = None
        watch.cell_ended()
        cell.wall_seconds = round(time.monotonic() - self.began, 3)
        if cell.name == guard.OutputLimit.__name__:
            watch.stop("flooded", cell.message)
        if watch.status:
            cell.status, cell.name, cell.message = watch.status, watch.status.capitalize(), watch.why
        if cell.status != "passed" and self.execution.status == "passed":
            self.execution.status = cell.status
            self.execution.error = client.error_of(cell.index, cell.id, cell.name, cell.message, cell.traceback)
        self.execution.ended(cell)

    def broke_off(self) -> None:
        """pytest was interrupted, by the death of the kernel, in the cell that ran."""
        if self.now is None:
            return
        self.now.status, self.now.name = "died", "KernelDied"
        self.now.message = client.how_it_died(self.execution)
        self._end()


def execute(execution: Execution) -> None:
    """Run pytest on the notebook. An error that belongs to no cell says why pytest did not come to its end."""
    nb = client.load(execution.request.notebook)
    suite = Suite(execution, nb)
    configuration = execution.scratch / "pytest.ini"  # the project's own options switch nbval off for the unit tests
    configuration.write_text("[pytest]\naddopts =\n")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    arguments = [
        *("--nbval-lax", "-p", "nbval.plugin", f"--nbval-cell-timeout={execution.request.wall_seconds + 60:.0f}"),
        f"--nbval-kernel-startup-timeout={START_SECONDS:.0f}",
        *("-c", str(configuration), "--rootdir", str(execution.scratch), "-p", "no:cacheprovider", "--color=no", "-q"),
        execution.request.notebook,
    ]
    status = int(pytest.main(arguments, plugins=[suite]))
    suite.broke_off()
    if status not in (0, 1, 2) or (not execution.cells and suite.code):
        said = suite.said or {5: "no code cell was found"}.get(status, f"pytest ended with status {status}")
        execution.status, execution.error = "failed", client.error_of(None, None, "", said)
    client.skip(execution, [(suite.places[index], nb.cells[index]) for index in suite.code])


def compared_lines(expected: str, got: str) -> str:
    """The lines in which two texts differ, as expected and as got; with quotes where only white space differs."""
    spaces = expected.split() == got.split()
    lines = []
    for line in difflib.ndiff(expected.splitlines(keepends=spaces), got.splitlines(keepends=spaces)):
        label = {"- ": "expected: ", "+ ": "got:      "}.get(line[:2])
        if label:
            lines.append(label + (repr(line[2:]) if spaces else line[2:]))
    more = [f"... and {len(lines) - MOST_LINES} lines more"] if len(lines) > MOST_LINES else []
    return "\n".join(lines[:MOST_LINES] + more)


def _text(outputs: list[Any]) -> str:
    """What a reader sees of a cell's outputs, as text."""
    parts = []
    for output in outputs:
        bundle = output.get("data", {})
        parts.append(output.get("text") or bundle.get("text/plain") or f"[{', '.join(bundle)}]\n")
    return "".join("".join(part) if isinstance(part, list) else str(part) for part in parts)
