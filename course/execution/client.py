"""papermill's client with limits: a cell that hangs, prints without end or takes its kernel down stops its own
notebook.

Imports papermill, half a second's work, so `course.execution.worker` imports it only in the process that runs a
notebook."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import ensure_async, run_sync
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines

from course.execution import processes
from course.execution.clock import Clock
from course.execution.inkernel import flood

ENGINE = "course"
GRACE = 3.0  # seconds that a cell has to end after its interrupt, before its kernel is killed
KEPT = 20_000  # characters of a traceback, or of the output of a cell that flooded

_COLOUR = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_LOG = logging.getLogger("course")


class Stopped(Exception):
    """The rest of the notebook is not executed."""


@dataclass
class Run:
    """One execution: its limits on the way in, how it ended on the way out."""

    environment: dict[str, str]
    folder: str
    scratch: Path
    cell_seconds: float
    wall_seconds: float
    output_bytes: int
    start_seconds: float = 60.0
    on_cell: Callable[[int, str], None] | None = None
    status: str = "passed"
    error: dict[str, Any] | None = None
    cancelled: bool = False
    clock: Clock = field(default_factory=Clock, repr=False)
    deadline: float = field(default=float("inf"), repr=False)  # on that clock


class CourseClient(PapermillNotebookClient):
    """Executes the cells of one notebook within the limits of its `Run`."""

    def __init__(self, manager: Any, run: Run, **options: Any) -> None:
        super().__init__(manager, **options)
        self.run = run
        self.meter = flood.Meter(run.output_bytes)
        self.too_much = asyncio.Event()
        self.reason: str | None = None
        self.detail = ""
        self.reply: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------- the kernel

    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        manager.connection_file = str(self.run.scratch / "kernel.json")
        # Sockets in our own folder: no two kernels ever meet at a port, and nobody else reaches them. Their paths are
        # short by the system's rule.
        if os.name == "posix" and len(str(self.run.scratch)) < 80:
            manager.transport = "ipc"
            manager.ip = str(self.run.scratch / "kernel")
        return manager

    def execute(self, **options: Any) -> NotebookNode:
        with open(self.run.scratch / "kernel.log", "ab") as log:
            return super().execute(
                cwd=self.run.folder,
                env=dict(self.run.environment),
                stdout=log,
                stderr=log,
                preexec_fn=processes.dies_with_parent(signal.SIGKILL) if os.name == "posix" else None,
                **options,
            )

    async def async_start_new_kernel(self, **options: Any) -> None:
        try:
            await super().async_start_new_kernel(**options)
        except Exception as error:
            self._not_started(f"{type(error).__name__}: {error}")

    start_new_kernel = run_sync(async_start_new_kernel)

    async def async_start_new_kernel_client(self) -> Any:
        if self.run.cancelled:
            await self._kill()
        manager = self.km
        try:
            client = await super().async_start_new_kernel_client()
        except Exception as error:
            self._not_started(str(error), manager)
        self.run.deadline = self.run.clock.seconds() + self.run.wall_seconds
        return client

    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    def _not_started(self, why: str, manager: Any = None) -> None:
        """Say so with the last words of the kernel, which tell a missing package from a slow machine."""
        said = "" if manager is None else self._last_words()
        self._fail("died", None, "KernelDidNotStart", f"{why}{': ' + said if said else ''}")
        raise Stopped from None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.run.scratch / "kernel.log").read_text(errors="replace")[-KEPT:].strip().splitlines()
            return plain(lines[-1]).strip() if lines else ""
        return ""

    async def _kill(self) -> None:
        if self.km is not None and self.km.has_kernel:
            with contextlib.suppress(RuntimeError, OSError):
                await ensure_async(self.km.signal_kernel(signal.SIGKILL if os.name == "posix" else signal.SIGTERM))

    # -------------------------------------------------------------------------------------------------- the cells

    def papermill_execute_cells(self) -> None:
        heading = ""
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type != "code":
                found = _HEADING.findall(cell.source) if cell.cell_type == "markdown" else []
                heading = found[-1] if found else heading
                self.nb_man.cell_start(cell, index)
                self.nb_man.cell_complete(cell, index)
                continue
            if self.run.on_cell is not None:
                self.run.on_cell(index, heading)
            self.nb_man.cell_start(cell, index)
            try:
                self._one_cell(cell, index)
            except Stopped:
                self.nb_man.cell_exception(cell, index)
                raise
            finally:
                self.nb_man.cell_complete(cell, index)

    def _one_cell(self, cell: NotebookNode, index: int) -> None:
        self.reason, self.reply = None, {}
        self.meter.start()
        self.too_much = asyncio.Event()
        name, value, status = "", "", "failed"
        try:
            self.execute_cell(cell, index)
        except CellExecutionError:
            name, value = str(self.reply.get("ename", "")), str(self.reply.get("evalue", ""))
        except DeadKernelError:
            status, name, value = "died", "KernelDied", self._how_it_died()
        except CellTimeoutError:  # the cell has ended, but the kernel does not say that its output is complete
            status, name, value = "timeout", "Timeout", "the kernel does not finish sending the output of this cell"
        if self.reason is None and self.run.cancelled:
            self.reason = "cancelled"
        if self.reason is not None:
            name = {"timeout": "Timeout", "flooded": "Flooded"}.get(self.reason, "Cancelled")
            status, value = self.reason, self.detail
        if name or self.reason:
            self._fail(status, index, name, value)
            self.shutdown_kernel = "graceful" if status == "failed" else "immediate"
            raise Stopped

    async def async_execute_cell(self, cell: NotebookNode, cell_index: int, *args: Any, **options: Any) -> NotebookNode:
        watch = asyncio.ensure_future(self._watch())
        try:
            return await super().async_execute_cell(cell, cell_index, *args, **options)
        finally:
            watch.cancel()

    execute_cell = run_sync(async_execute_cell)

    async def _watch(self) -> None:
        """Interrupt the cell when it has run or printed too long; kill the kernel when it goes on all the same."""
        began, clock = time.monotonic(), self.run.clock
        now = clock.seconds()
        whole = self.run.deadline < now + self.run.cell_seconds
        end = min(self.run.deadline, now + self.run.cell_seconds)
        while now < end and not self.too_much.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.too_much.wait(), min(1.0, max(0.05, end - now)))
            now = clock.seconds()
        if self.too_much.is_set():
            self.reason = "flooded"
            self.detail = f"printed more than {self.run.output_bytes:,} bytes"
        else:
            self.reason = "timeout"
            if whole:
                self.detail = f"still running when the notebook had taken {_seconds(self.run.wall_seconds)}, its limit"
            else:
                self.detail = f"still running after {_seconds(self.run.cell_seconds)}, the limit of one cell"
                took = time.monotonic() - began
                if took > 1.2 * self.run.cell_seconds:
                    self.detail += f" (in fact {_seconds(took)}, since the machine was busy)"
        assert self.km is not None
        with contextlib.suppress(RuntimeError, OSError):
            await ensure_async(self.km.interrupt_kernel())
        await asyncio.sleep(GRACE)
        await self._kill()

    async def _check_raise_for_error(self, cell: NotebookNode, cell_index: int, exec_reply: Any) -> None:
        self.reply = (exec_reply or {}).get("content", {})
        await super()._check_raise_for_error(cell, cell_index, exec_reply)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        kind = msg["msg_type"]
        if kind == flood.MESSAGE or not self.meter.admits(kind, msg["content"], msg.get("buffers")):
            self.too_much.set()
            return None
        if kind not in ("status", "execute_input", "error") and self.too_much.is_set():
            return None
        return super().process_message(msg, cell, cell_index)

    def _how_it_died(self) -> str:
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        said = self._last_words()
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

    def _fail(self, status: str, index: int | None, name: str, value: str) -> None:
        cell = None if index is None else self.nb.cells[index]
        traceback = plain("\n".join(map(str, self.reply.get("traceback") or [])))
        if len(traceback) > KEPT:
            traceback = f"{traceback[: KEPT // 2]}\n[...]\n{traceback[-KEPT // 2 :]}"
        self.run.status = "cancelled" if self.run.cancelled else status
        self.run.error = {
            "cell": index,
            "cell_id": None if cell is None else cell.get("id"),
            "name": name,
            "value": plain(value)[:KEPT],
            "traceback": traceback,
            "source": "" if cell is None else next((line for line in cell.source.split("\n") if line.strip()), ""),
        }


def guard(output_bytes: int) -> str:
    """The argument that has a kernel limit what a cell may print."""
    return f"--IPKernelApp.exec_lines=__import__('runpy').run_path({flood.__file__!r})['install']({output_bytes});"


class CourseEngine(Engine):
    """What papermill calls; the `Run` comes in and goes out through `run`."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, run: Run, **_: Any) -> None:
        client = CourseClient(
            nb_man,
            run,
            kernel_name=kernel_name,
            startup_timeout=int(run.start_seconds),
            iopub_timeout=60,
            timeout=None,
            extra_arguments=[guard(run.output_bytes)],
            log=_LOG,
        )
        with contextlib.suppress(Stopped):
            client.execute()


def run_cells(nb: NotebookNode, run: Run) -> None:
    """Execute the notebook in place. `run.status` and `run.error` say how it ended."""
    papermill_engines.register(ENGINE, CourseEngine)
    kernel = nb.metadata.get("kernelspec", {}).get("name") or "python3"
    papermill_engines.execute_notebook_with_engine(
        ENGINE, nb, kernel, output_path=None, progress_bar=False, autosave_cell_every=0, run=run
    )
    flooded = run.error["cell"] if run.error is not None and run.status == "flooded" else None
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
            if index == flooded:
                cell.outputs = _cut(cell.outputs)


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
    """The beginning of a flood is enough to recognise it."""
    kept, size = [], 0
    for output in outputs:
        if output["output_type"] == "stream" and size < KEPT and len(output["text"]) > KEPT - size:
            output["text"] = output["text"][: KEPT - size] + "\n[the rest of this output is cut off]\n"
        if size < KEPT or output["output_type"] == "error":
            kept.append(output)
        size += flood.weigh(output)
    return kept


def plain(text: str) -> str:
    """The text without the colours of a terminal."""
    return _COLOUR.sub("", text)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
