"""papermill's client with limits: a cell that hangs, prints without end or takes its kernel down stops its own
notebook.

Imports papermill, half a second's work, so only the process that runs a notebook imports it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import signal
import time
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode
from nbformat.reader import NotJSONError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from course.errors import CourseError
from course.execution.inkernel import output as guard
from course.execution.worker import START_SECONDS, Execution
from course.notebook import tags
from course.outcome import CellResult

ENGINE = "course"
RESULTS = "application/vnd.course.results+json"
KEPT = 20_000  # characters of a traceback, or of the output of a cell that printed too much

_COLOUR = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_LOG = logging.getLogger("course")


class Stopped(Exception):
    """The rest of the notebook is not executed."""


class CourseClient(PapermillNotebookClient):
    """Executes the cells of one notebook within the limits of its execution."""

    def __init__(self, manager: Any, execution: Execution, **options: Any) -> None:
        super().__init__(manager, **options)
        self.execution = execution
        self.watch = execution.watch
        self.meter = guard.Meter(execution.request.output_bytes)
        self.reply: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------- the kernel

    async def async_start_new_kernel(self, **options: Any) -> None:
        try:
            await super().async_start_new_kernel(**options)
        except Exception as error:
            self._not_started(f"{type(error).__name__}: {error}")

    start_new_kernel = run_sync(async_start_new_kernel)

    async def async_start_new_kernel_client(self) -> Any:
        try:
            return await super().async_start_new_kernel_client()
        except Exception as error:
            self._not_started(str(error))

    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    def _not_started(self, why: str) -> None:
        """Say so with the last words of the kernel, which tell a missing package from a slow machine."""
        said = last_words(self.execution)
        self.execution.status = "died"
        self.execution.error = error_of(None, None, "KernelDidNotStart", f"{why}{': ' + said if said else ''}")
        raise Stopped from None

    # -------------------------------------------------------------------------------------------------- the cells

    def papermill_execute_cells(self) -> None:
        given, heading = places(self.nb.cells), ""
        total = sum(place is not None for place in given)
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type != "code":
                found = _HEADING.findall(cell.source) if cell.cell_type == "markdown" else []
                heading = found[-1] if found else heading
                self.nb_man.cell_start(cell, index)
                self.nb_man.cell_complete(cell, index)
                continue
            place = given[index] if given[index] is not None else given[index - 1]
            assert place is not None
            self.execution.tell({"progress": {"cell": place, "cells": total, "heading": heading}})
            self.nb_man.cell_start(cell, index)
            try:
                self._one_cell(cell, index, place, given[index] is None)
            except Stopped:
                self.nb_man.cell_exception(cell, index)
                raise
            finally:
                self.nb_man.cell_complete(cell, index)

    def _one_cell(self, cell: NotebookNode, index: int, place: int, injected: bool) -> None:
        self.reply = {}
        self.meter.start()
        result = CellResult(place, cell.get("id", ""), "passed")
        began = time.monotonic()
        self.watch.cell_began()
        try:
            if not self.watch.status:
                self.execute_cell(cell, index)
        except CellExecutionError:
            pass
        except DeadKernelError:
            result.status, result.name, result.message = "died", "KernelDied", how_it_died(self.execution)
        except CellTimeoutError:  # the cell has ended, but the kernel does not say that its output is complete
            result.status, result.name = "timeout", "Timeout"
            result.message = "the kernel does not finish sending the output of this cell"
        self.watch.cell_ended()
        result.wall_seconds, result.output_bytes = round(time.monotonic() - began, 3), self.meter.sent
        self._judge(result)
        if not injected or result.status != "passed":
            self.execution.ended(result)
        # Goes on after an error that the cell is allowed; whatever else stops a cell stops the notebook.
        if result.status == "passed" or (result.status == "failed" and "raises-exception" in tags(cell)):
            return
        self.execution.status = result.status
        source = next((line for line in cell.source.split("\n") if line.strip()), "")
        self.execution.error = error_of(result.index, result.id, result.name, result.message, result.traceback, source)
        self.shutdown_kernel = "graceful" if result.status == "failed" else "immediate"
        raise Stopped

    def _judge(self, result: CellResult) -> None:
        """What the reply and the watch say of a cell."""
        if result.status == "passed" and self.reply.get("status") == "error":
            result.status = "failed"
            result.name, result.message = str(self.reply.get("ename", "")), str(self.reply.get("evalue", ""))
        result.traceback = plain_traceback(self.reply.get("traceback"))
        if result.name == guard.OutputLimit.__name__:
            self.watch.stop("flooded", guard.too_much(self.execution.request.output_bytes))
        if self.watch.status:
            result.status, result.message = self.watch.status, self.watch.why
            result.name = {"timeout": "Timeout", "flooded": "Flooded"}.get(result.status, "Cancelled")
        result.message = plain(result.message)[:KEPT]

    async def _check_raise_for_error(self, cell: NotebookNode, cell_index: int, exec_reply: Any) -> None:
        self.reply = (exec_reply or {}).get("content", {})
        await super()._check_raise_for_error(cell, cell_index, exec_reply)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        kind = msg["msg_type"]
        if kind != "error" and not self.meter.admits(kind, msg["content"], msg.get("buffers")):
            self.watch.stop("flooded", guard.too_much(self.execution.request.output_bytes))
            return None
        return super().process_message(msg, cell, cell_index)


def how_it_died(execution: Execution) -> str:
    """In words: by which signal or with which exit code, and what the kernel said last."""
    code, said = execution.watch.exit_code(), last_words(execution)
    if code == guard.ENDED:
        execution.watch.stop("flooded", guard.too_much(execution.request.output_bytes))
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        how = f"the kernel was killed by signal {-code} ({name})"
        if name == "SIGKILL":
            how += ", as the system does when memory runs out"
    else:
        how = "the kernel ended" + ("" if code is None else f" by itself with exit code {code}")
    return how + (f"; its last words: {said}" if said else "")


def last_words(execution: Execution) -> str:
    with contextlib.suppress(OSError):
        lines = (execution.scratch / "kernel.log").read_text(errors="replace")[-KEPT:].strip().splitlines()
        return plain(lines[-1]).strip() if lines else ""
    return ""


def error_of(
    cell: int | None, cell_id: str | None, name: str, value: str, traceback: str = "", source: str = ""
) -> dict[str, Any]:
    """`Result.error`."""
    return {"cell": cell, "cell_id": cell_id, "name": name, "value": value, "traceback": traceback, "source": source}


def places(cells: list[NotebookNode]) -> list[int | None]:
    """For each cell its place in the notebook as given; None for the one that papermill has put in."""
    found: list[int | None] = []
    for cell in cells:
        injected = "injected-parameters" in tags(cell)
        found.append(None if injected else sum(place is not None for place in found))
    return found


class CourseEngine(Engine):
    """What papermill calls."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, execution: Execution, **_: Any) -> None:
        client = CourseClient(
            nb_man,
            execution,
            kernel_name=kernel_name,
            startup_timeout=int(START_SECONDS),
            iopub_timeout=60,
            timeout=None,
            log=_LOG,
        )
        with contextlib.suppress(Stopped):
            client.execute()


def execute(execution: Execution) -> None:
    """Execute the notebook with its parameters, as papermill does. CourseError when it is none."""
    request = execution.request
    nb = load(request.notebook)
    if request.parameters:
        nb = parameterize_notebook(nb, request.parameters, kernel_name="python3", language="python")
    papermill_engines.register(ENGINE, CourseEngine)
    kernel = nb.metadata.get("kernelspec", {}).get("name") or "python3"
    papermill_engines.execute_notebook_with_engine(
        ENGINE, nb, kernel, output_path=None, progress_bar=False, autosave_cell_every=0, execution=execution
    )
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
            if sum(map(guard.weigh, cell.outputs)) > request.output_bytes // 2 and execution.status == "flooded":
                cell.outputs = _cut(cell.outputs)
    skip(execution, [(place, cell) for place, cell in zip(places(nb.cells), nb.cells) if cell.cell_type == "code"])
    read_metrics(execution, nb.cells)
    execution.executed = (nbformat.writes(nb, indent=1, ensure_ascii=False).rstrip("\n") + "\n").encode()


def load(path: str) -> NotebookNode:
    """The notebook with the fields that papermill wants in it."""
    try:
        return load_notebook_node(path)
    except OSError as error:
        raise CourseError(f"{path}: {error.strerror or error}") from None
    except (NotJSONError, UnicodeDecodeError):
        raise CourseError(f"{path}: not a notebook: it is no JSON") from None
    except Exception as error:
        raise CourseError(f"{path}: not a notebook: {type(error).__name__}: {error}") from None


def skip(execution: Execution, code: list[tuple[int | None, Any]]) -> None:
    """Note the code cells that were not reached."""
    done = {cell.index for cell in execution.cells}
    for place, cell in code:
        if place is not None and place not in done:
            execution.ended(CellResult(place, cell.get("id", ""), "skipped"))


def read_metrics(execution: Execution, cells: list[Any]) -> None:
    """What the cells recorded: finite numbers in `metrics`, anything else as text in `unreadable`; the last of a name
    counts.
    """
    for cell in cells:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(RESULTS, {})
            for name, value in bundle.items() if isinstance(bundle, dict) else ():
                for noted in (execution.metrics, execution.unreadable):
                    noted.pop(str(name), None)
                try:
                    number = float(value) if not isinstance(value, str) else math.nan
                except (TypeError, ValueError, OverflowError):
                    number = math.nan
                if math.isfinite(number):
                    execution.metrics[str(name)] = number
                else:
                    text = (
                        repr(value) if isinstance(value, (str, float)) else f"a {type(value).__name__} that is no float"
                    )
                    execution.unreadable[str(name)] = text[:60]


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Streams arrive in pieces; neighbours of the same name become one."""
    joined: list[tuple[NotebookNode, list[str]]] = []
    for output in outputs:
        text = [output["text"]] if output["output_type"] == "stream" else []
        if text and joined and joined[-1][1] and joined[-1][0]["name"] == output["name"]:
            joined[-1][1].extend(text)
        else:
            joined.append((output, text))
    for output, pieces in joined:
        if pieces:
            output["text"] = "".join(pieces)
    return [output for output, _ in joined]


def _cut(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The beginning of what was too much is enough to recognise it."""
    kept, size = [], 0
    for output in outputs:
        if output["output_type"] == "stream" and size < KEPT and len(output["text"]) > KEPT - size:
            output["text"] = output["text"][: KEPT - size] + "\n[the rest of this output is cut off]\n"
        if size < KEPT or output["output_type"] == "error":
            kept.append(output)
        size += guard.weigh(output)
    return kept


def plain(text: str) -> str:
    """The text without the colours of a terminal."""
    return _COLOUR.sub("", text)


def plain_traceback(lines: Any) -> str:
    """A traceback of a reply or an output as plain text, its middle left out when it is long."""
    text = plain("\n".join(map(str, lines or [])))
    return text if len(text) <= KEPT else f"{text[: KEPT // 2]}\n[...]\n{text[-KEPT // 2 :]}"
