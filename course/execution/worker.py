"""Executes one notebook in a process of its own, within limits, and says how it ended.

`spawn` starts `python -m course.execution.worker`, sends it the request on its standard input and reads lines of JSON
from its standard output. The process lives no longer than its standard input is open: when the parent ends, in
whichever way, it takes its kernel along, and everything that the notebook started."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from course.errors import CourseError
from course.execution.clock import Clock
from course.files import write_atomically
from course.outcome import Result

RESULTS = "application/vnd.course.results+json"
START_SECONDS = 120.0  # for the kernel to start: the first one on a cold disk takes long
END_SECONDS = 20.0  # for the process to end its kernel and write the notebook
MARK = "COURSE_EXECUTION"  # in the environment of every process of one execution
# A backend chosen for scripts hides the figures; a personal start-up file changes results; with pytest's variable,
# ipykernel lets the output of subprocesses go by.
NOT_FOR_KERNELS = ("MPLBACKEND", "PYTHONSTARTUP", "PYTEST_CURRENT_TEST", "JPY_SESSION_NAME")
PACKAGES = {"keras": ("keras",), "tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}

Progress = Callable[[dict[str, Any]], None]


class Flag(Protocol):
    """What `cancel` must offer; a threading.Event does."""

    def is_set(self) -> bool: ...


@dataclass
class Request:
    """One notebook to execute. Paths may be relative to the current folder."""

    notebook: str
    output: str
    parameters: dict[str, Any] = field(default_factory=dict)
    threads: int = 2
    cell_seconds: float = 600.0  # limits go by `course.execution.clock`, which is slower on a busy machine
    wall_seconds: float = 3600.0
    cwd: str = ""  # where the kernel works; the notebook's own folder when empty
    environment: dict[str, str] = field(default_factory=dict)
    output_bytes: int = 5_000_000  # what one cell may print


def execute(request: Request, on_progress: Progress | None = None) -> Result:
    """Execute the notebook with a kernel of this process, and write it with the outputs it has by then, unless
    cancelled.

    CourseError when it cannot be read or written. Use `spawn` unless this process exists for this one notebook.
    """
    return _Execution(request, on_progress).execute()


def spawn(request: Request, on_progress: Progress | None = None, cancel: Flag | None = None) -> Result:
    """Execute the notebook in a process of its own, and return when nothing of it is left.

    Whatever the notebook does comes back as a Result, "cancelled" when `cancel` was set. CourseError when the notebook
    cannot be read or its output cannot be written."""
    request = _absolute(request)
    mark = uuid.uuid4().hex
    started = time.monotonic()
    try:
        scratch = tempfile.mkdtemp(prefix="course-")
    except OSError as error:
        raise CourseError(f"{tempfile.gettempdir()}: {error.strerror or error}") from None
    try:
        with open(os.path.join(scratch, "execute.log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "course.execution.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, MARK: mark},
                cwd=scratch,
                start_new_session=True,
            )
        try:
            message, last = _listen(process, request, scratch, on_progress, cancel)
        finally:
            _end(process, mark)
        if "refused" in message:
            raise CourseError(message["refused"])
        if "result" in message:
            return Result.from_json(message["result"])
        cancelled = cancel is not None and cancel.is_set()
        status, what = _without_result(process.returncode, cancelled, "overdue" in message, scratch)
        what.update(cell=last.get("cell"), cell_id=None, traceback="", source="")
        seconds = time.monotonic() - started
        return Result(request.notebook, status, what, wall_seconds=seconds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _without_result(code: int, cancelled: bool, overdue: bool, scratch: str) -> tuple[str, dict[str, Any]]:
    """What to report of a process that ended without a word: the system killed it, or it did not come to an end."""
    if cancelled:
        return "cancelled", {"name": "Cancelled", "value": ""}
    if overdue:
        value = "neither the notebook nor the process that runs it came to an end"
        return "timeout", {"name": "Timeout", "value": value}
    said = Path(scratch, "execute.log").read_text(errors="replace").strip().splitlines()
    value = f"the process that runs the notebook ended with {code}" + (f": {said[-1]}" if said else "")
    return "died", {"name": "ProcessDied", "value": value}


def _absolute(request: Request) -> Request:
    notebook = os.path.abspath(request.notebook)
    folder = os.path.abspath(request.cwd) if request.cwd else os.path.dirname(notebook)
    return Request(
        **{**asdict(request), "notebook": notebook, "output": os.path.abspath(request.output), "cwd": folder}
    )


def _listen(
    process: subprocess.Popen[bytes], request: Request, scratch: str, on_progress: Progress | None, cancel: Flag | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message that ended the process (empty when it ended without one), and the last progress it told of."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps({"request": asdict(request), "scratch": scratch}).encode() + b"\n")
        process.stdin.flush()
    messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, messages), daemon=True).start()
    clock, overdue = Clock(), START_SECONDS + request.wall_seconds + END_SECONDS
    last: dict[str, Any] = {}
    told = False
    while True:
        late = clock.seconds() > overdue
        try:
            message = messages.get(timeout=0.1)
        except queue.Empty:
            if cancel is not None and cancel.is_set() and not told:
                told = True
                overdue = min(overdue, clock.seconds() + END_SECONDS)
                _close(process.stdin)
            if late:
                return {"overdue": True}, last
            continue
        if message is None:
            return {}, last
        if "progress" not in message:
            return message, last
        last = message["progress"]
        if on_progress is not None:
            on_progress(last)


def _read(stream: IO[bytes], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            messages.put(json.loads(line))
    messages.put(None)


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        stream.close()


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Let the process end by itself, end it if it does not, and look that nothing with its mark is left."""
    from course.execution import processes

    assert process.stdin is not None
    _close(process.stdin)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    processes.end_marked(MARK, mark)


def kernel_environment(request: Request, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the kernel: threads fixed, since they change results, and nothing of a personal IPython
    set-up.
    """
    threads = str(request.threads)
    environment = {name: value for name, value in base.items() if name not in NOT_FOR_KERNELS}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        environment[name] = threads
    return {**environment, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0", **request.environment}


def versions() -> dict[str, str]:
    """Python and what notebooks compute with, read from the packages' metadata."""
    found = {"python": platform.python_version()}
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.setdefault(name, importlib.metadata.version(distribution))
    return found


class _Execution:
    """One notebook's execution in this process; `cancel` ends it from another thread."""

    def __init__(self, request: Request, on_progress: Progress | None, scratch: str | None = None) -> None:
        self.request = _absolute(request)
        self.on_progress = on_progress
        self.scratch = scratch
        self.run: Any = None
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        if self.run is not None:
            self.run.cancelled = True

    def execute(self) -> Result:
        from course.execution import processes

        with contextlib.ExitStack() as stack:
            scratch = self.scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="course-"))
            usage = stack.enter_context(processes.Usage())
            result, notebook = self._run(Path(scratch))
            processes.end_descendants()
        result.cpu_seconds = round(usage.cpu_seconds, 3)
        result.wall_seconds = round(usage.wall_seconds, 3)
        result.peak_rss_bytes = usage.peak_rss_bytes
        if result.status != "cancelled":  # nobody waits for it
            write_atomically(self.request.output, notebook)
        return result

    def _run(self, scratch: Path) -> tuple[Result, bytes]:
        import nbformat
        from papermill.parameterize import parameterize_notebook

        from course.execution import client

        request = self.request
        nb = _read_notebook(request.notebook)
        cells = len(nb.cells)
        if request.parameters:
            nb = parameterize_notebook(nb, request.parameters, kernel_name="python3", language="python")
        injected = next(
            (index for index, cell in enumerate(nb.cells) if "injected-parameters" in cell.metadata.tags), cells
        )
        shift = len(nb.cells) - cells

        def given(index: int) -> int:
            """The place in the notebook as given of a cell of the executed one."""
            return index - shift if index >= injected else index

        def on_cell(index: int, heading: str) -> None:
            if self.on_progress is not None:
                self.on_progress({"cell": given(index), "cells": cells, "heading": heading})

        environment = {**kernel_environment(request), "IPYTHONDIR": str(scratch / "ipython")}
        self.run = run = client.Run(
            environment=environment,
            folder=request.cwd,
            scratch=scratch,
            cell_seconds=request.cell_seconds,
            wall_seconds=request.wall_seconds,
            output_bytes=request.output_bytes,
            start_seconds=START_SECONDS,
            on_cell=on_cell,
            cancelled=self.cancelled,
        )
        client.run_cells(nb, run)
        if run.error is not None and run.error["cell"] is not None:
            run.error["cell"] = given(run.error["cell"])
        result = Result(
            notebook=request.notebook,
            status=run.status,
            error=run.error,
            metrics=read_metrics(nb.cells),
            versions=versions(),
        )
        return result, (nbformat.writes(nb, indent=1, ensure_ascii=False).rstrip("\n") + "\n").encode()


def _read_notebook(path: str) -> Any:
    """The notebook with the fields that papermill wants in it."""
    from nbformat.reader import NotJSONError
    from papermill.iorw import load_notebook_node

    try:
        return load_notebook_node(path)
    except FileNotFoundError:
        raise CourseError(f"{path}: no such notebook") from None
    except OSError as error:
        raise CourseError(f"{path}: {error.strerror or error}") from None
    except (NotJSONError, UnicodeDecodeError):
        raise CourseError(f"{path}: not a notebook: it is no JSON") from None
    except Exception as error:
        raise CourseError(f"{path}: not a notebook: {type(error).__name__}: {error}") from None


def read_metrics(cells: list[Any]) -> dict[str, float]:
    """The numbers that the cells of an executed notebook recorded; of a name recorded twice, the later one."""
    metrics: dict[str, float] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(RESULTS, {})
            for name, value in bundle.items() if isinstance(bundle, dict) else ():
                with contextlib.suppress(TypeError, ValueError):
                    metrics[str(name)] = float(value)
    return metrics


# ------------------------------------------------------------------------------------- python -m
# course.execution.worker


def main() -> None:
    """Read a request from standard input, execute it, tell on standard output; end when the input ends."""
    from course.execution import processes

    outlet = os.dup(1)
    os.dup2(2, 1)  # nothing but our lines reaches the parent
    order = json.loads(_first_line())

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(outlet, data) :]

    execution = _Execution(
        Request(**order["request"]), lambda progress: tell({"progress": progress}), order.get("scratch")
    )
    code = 1

    def stop() -> None:
        """Kill whatever runs below until `main` has come to its end, which it does without a kernel."""
        execution.cancel()
        deadline = time.monotonic() + END_SECONDS / 2
        while time.monotonic() < deadline:
            processes.end_descendants(1)
            time.sleep(0.1)
        finish()

    def finish() -> None:
        processes.end_descendants()
        if execution.scratch is not None and execution.cancelled:
            shutil.rmtree(execution.scratch, ignore_errors=True)  # the parent, who made it, may be gone
        os._exit(code)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        stop()

    def on_signal(number: int, frame: Any) -> None:
        threading.Thread(target=stop, daemon=True).start()

    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), on_signal)
    processes.adopt_orphans()
    processes.die_with_parent(signal.SIGTERM)
    threading.Thread(target=watch, daemon=True).start()
    try:
        result = execution.execute()
        if execution.cancelled and result.status != "passed":
            result.status = "cancelled"
        tell({"result": asdict(result)})
        code = 0
    except CourseError as error:
        tell({"refused": str(error)})
        code = 2
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        finish()


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line


if __name__ == "__main__":
    main()
