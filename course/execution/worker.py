"""Executes one notebook in a process of its own, within limits, and says how it ended.

`spawn` has such a process forked from a template, or starts one, sends it the request on its standard input and reads
lines of
JSON from its standard output: where it is, how each cell ended, the result. The process lives no longer than its
standard input
is open: when the program ends, in whichever way, it takes its kernel along, and everything that the notebook started.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from course.errors import CourseError
from course.execution.template import Unavailable, template
from course.outcome import CellResult, Result

if TYPE_CHECKING:
    from course.execution.limits import Watch
    from course.execution.provisioner import Seed

START_SECONDS = 120.0  # for the kernel to start: the first one on a cold disk takes long
END_SECONDS = 20.0  # for the process to end its kernel and send the notebook
FREE_BYTES = 20_000_000  # in the folder for temporary files: less than that, and a kernel fails without a word
MARK = "COURSE_EXECUTION"  # in the environment of every program that one execution starts
# A backend chosen for scripts hides the figures; a personal start-up file changes results; with pytest's variable,
# ipykernel lets the output of subprocesses go by; JupyterLab's makes the pictures move by themselves.
NOT_FOR_KERNELS = ("PYTHONSTARTUP", "PYTEST_CURRENT_TEST", "JPY_SESSION_NAME", "JPY_PARENT_PID", MARK)
INLINE = "module://matplotlib_inline.backend_inline"
PACKAGES = {"keras": ("keras",), "tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}

Progress = Callable[[dict[str, Any]], None]


class ExecutorLost(CourseError):
    """Nothing can be executed any more: this ends a run, where another error costs one notebook."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 1)


class Flag(Protocol):
    """What `cancel` must offer; a threading.Event does."""

    def is_set(self) -> bool: ...


@dataclass
class Request:
    """One notebook to execute. Paths may be relative to the current folder. The limits are those of
    `course.execution.limits`.
    """

    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    threads: int = 2
    cpu_seconds: float = 3600.0
    wall_seconds: float = 7200.0
    output_bytes: int = 5_000_000
    file_bytes: int = 8_000_000_000
    cwd: str = ""  # where the kernel works; the notebook's own folder when empty
    environment: dict[str, str] = field(default_factory=dict)
    executor: str = "course.execution.client:execute"  # what runs the cells, a function of an `Execution`


@dataclass
class Execution:
    """What an executor of cells is given, and what it fills in; it runs in the notebook's own process.

    `status` is "passed" unless it says otherwise. `cells` are told to the program as they are added by `ended`.
    """

    request: Request
    scratch: Path
    watch: Watch
    tell: Callable[[dict[str, Any]], None]
    status: str = "passed"
    error: dict[str, Any] | None = None
    cells: list[CellResult] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    executed: bytes | None = None

    def ended(self, cell: CellResult) -> None:
        self.cells.append(cell)
        self.tell({"cell": asdict(cell)})


def spawn(
    request: Request, on_progress: Progress | None = None, cancel: Flag | None = None
) -> tuple[Result, bytes | None]:
    """Execute the notebook in a process of its own, and return when nothing of it is left.

    Whatever the notebook does comes back as a Result, "cancelled" when `cancel` was set, with the notebook as executed
    so far (None when the process ended without it).

    Raises:
        CourseError: the notebook cannot be read, its folder is not there, or there is no room for temporary files.
    """
    request = Request(**asdict(request))
    request.notebook = os.path.abspath(request.notebook)
    request.cwd = os.path.abspath(request.cwd) if request.cwd else os.path.dirname(request.notebook)
    if not os.path.isfile(request.notebook):
        raise CourseError(f"{request.notebook}: no such notebook")
    if not os.path.isdir(request.cwd):
        raise CourseError(f"{request.cwd}: no such folder, and the kernel would work there")
    mark, started = uuid.uuid4().hex, time.monotonic()
    with _scratch() as scratch:
        process = _Process(request, scratch, mark)
        heard = _Heard()
        try:
            message = _listen(process, request, heard, on_progress, cancel)
        finally:
            process.end(mark, heard.kernel)
        if "refused" in message:
            raise CourseError(message["refused"])
        if "result" in message:
            executed = message.get("executed")
            return Result.from_json(message["result"]), None if executed is None else base64.b64decode(executed)
        cancelled = cancel is not None and cancel.is_set()
        status, name, value = _without_result(cancelled, "overdue" in message, scratch)
        error = {"cell": heard.progress.get("cell"), "cell_id": None, "name": name, "value": value}
        result = Result(request.notebook, status, {**error, "traceback": "", "source": ""}, cells=heard.cells)
        result.wall_seconds = round(time.monotonic() - started, 3)
        return result, None


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    folder = tempfile.gettempdir()
    try:
        if shutil.disk_usage(folder).free < FREE_BYTES:
            raise CourseError(f"{folder}, the folder for temporary files, is full: make room, or set TMPDIR to another")
        scratch = tempfile.mkdtemp(prefix="course-")
    except OSError as error:
        raise CourseError(f"{folder}: {error.strerror or error}") from None
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _without_result(cancelled: bool, overdue: bool, scratch: str) -> tuple[str, str, str]:
    """Status, name and words for a process that ended without a word: the system killed it, or it did not come to an
    end.
    """
    if cancelled:
        return "cancelled", "Cancelled", ""
    if overdue:
        return "timeout", "Timeout", "neither the notebook nor the process that runs it came to an end"
    said = Path(scratch, "execute.log").read_text(errors="replace").strip().splitlines()
    return "died", "ProcessDied", f"the process that runs the notebook was killed{f': {said[-1]}' if said else ''}"


class _Process:
    """The process that runs the notebook, forked or started, with a pipe to it and one from it."""

    def __init__(self, request: Request, scratch: str, mark: str) -> None:
        import psutil

        environment = kernel_environment(request)
        own = {MARK: mark, "IPYTHONDIR": os.path.join(scratch, "ipython")}
        order = {"request": asdict(request), "scratch": scratch}
        read, self._input = os.pipe()
        self._output, write = os.pipe()
        log = os.open(os.path.join(scratch, "execute.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._process: psutil.Process | psutil.Popen | None = None
        try:
            made = template(environment)
            pid = made.fork("course.execution.worker:forked", (read, write, log), own)
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process = psutil.Process(pid)
        except Unavailable as reason:
            order["cold"] = str(reason)
            self._process = psutil.Popen(
                [sys.executable, "-P", "-m", "course.execution.worker"],
                stdin=read,
                stdout=write,
                stderr=log,
                env={**environment, **own},
                cwd=scratch,
                start_new_session=True,
            )
        finally:
            for file in (read, write, log):
                os.close(file)
        with contextlib.suppress(BrokenPipeError):
            data = json.dumps(order).encode() + b"\n"
            while data:
                data = data[os.write(self._input, data) :]

    def messages(self) -> queue.SimpleQueue[dict[str, Any] | None]:
        """What it says, as it says it; None at the end."""
        found: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._output, found), daemon=True).start()
        return found

    def close(self) -> None:
        """Tell it to end."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def end(self, mark: str, kernel: int | None) -> None:
        """Let it end by itself, end it if it does not, and look that nothing of it is left."""
        import psutil

        from course.execution import processes

        self.close()
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                processes.kill([self._process])
                with contextlib.suppress(psutil.Error):
                    self._process.wait(END_SECONDS)
        sessions = {pid for pid in (kernel, self._process.pid if self._process else None) if pid is not None}
        processes.end_marked(MARK, mark, sessions)


@dataclass
class _Heard:
    """What a process has said so far."""

    progress: dict[str, Any] = field(default_factory=dict)
    cells: list[CellResult] = field(default_factory=list)
    kernel: int | None = None


def _listen(
    process: _Process, request: Request, heard: _Heard, on_progress: Progress | None, cancel: Flag | None
) -> dict[str, Any]:
    """The message that ended the process; empty when it ended without one."""
    messages = process.messages()
    overdue = time.monotonic() + START_SECONDS + request.wall_seconds + END_SECONDS
    told = False
    while True:
        late = time.monotonic() > overdue
        try:
            message = messages.get(timeout=0.1)
        except queue.Empty:
            if cancel is not None and cancel.is_set() and not told:
                told = True
                overdue = min(overdue, time.monotonic() + END_SECONDS)
                process.close()
            if late:
                return {"overdue": True}
            continue
        if message is None:
            return {}
        if "progress" in message:
            heard.progress = message["progress"]
            if on_progress is not None:
                on_progress(heard.progress)
        elif "cell" in message:
            heard.cells.append(CellResult(**message["cell"]))
        elif "kernel" in message:
            heard.kernel = message["kernel"]
        else:
            return message


def _read(pipe: int, messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with open(pipe, "rb") as stream, contextlib.suppress(OSError, ValueError):
        for line in stream:
            messages.put(json.loads(line))
    messages.put(None)


def kernel_environment(request: Request, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the kernel: threads fixed, since they change results, and nothing of a personal IPython
    set-up.
    """
    threads = str(request.threads)
    environment = {name: value for name, value in base.items() if name not in NOT_FOR_KERNELS}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        environment[name] = threads
    fixed = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0", "MPLBACKEND": INLINE}
    return {**environment, **fixed, **request.environment}


def versions() -> dict[str, str]:
    """Python and what notebooks compute with, read from the packages' metadata."""
    found = {"python": platform.python_version()}
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.setdefault(name, importlib.metadata.version(distribution))
    return found


# ------------------------------------------------------------------------------------- python -m
# course.execution.worker


def forked() -> None:
    """What a child of the template does: it forks the kernel while it has one thread, then runs the notebook."""
    from course.execution.provisioner import Seed

    main(Seed())


def main(seed: Seed | None = None) -> None:
    """Read a request from standard input, execute it, tell on standard output; end when the input ends."""
    from course.execution import processes
    from course.execution.limits import Limits, Watch

    outlet = os.dup(1)
    os.dup2(2, 1)  # nothing but our lines reaches the program
    order = json.loads(_first_line())
    request, scratch = Request(**order["request"]), Path(order["scratch"])
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with lock, contextlib.suppress(OSError):  # nobody listens any more
            while data:
                data = data[os.write(outlet, data) :]

    limits = Limits(request.cpu_seconds, request.wall_seconds, request.output_bytes, request.file_bytes)
    watch = Watch(limits, lambda pid: tell({"kernel": pid}))
    code = 1

    def stop() -> None:
        """Kill whatever runs below until `main` has come to its end, which it does without a kernel."""
        watch.stop("cancelled", "")
        deadline = time.monotonic() + END_SECONDS / 2
        while time.monotonic() < deadline:
            processes.end_descendants(1)
            time.sleep(0.1)
        finish()

    def finish() -> None:
        processes.end_descendants()
        if watch.status == "cancelled":
            shutil.rmtree(scratch, ignore_errors=True)  # the program, which made it, may be gone
        os._exit(code)

    def listen() -> None:
        while os.read(0, 1024):
            pass
        stop()

    def on_signal(number: int, frame: Any) -> None:
        threading.Thread(target=stop, daemon=True).start()

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), on_signal)
    processes.adopt_orphans()
    threading.Thread(target=listen, daemon=True).start()
    try:
        with watch:
            execution = _execute(Execution(request, scratch, watch, tell), seed)
            processes.end_descendants()
        result = _result(execution)
        result.kernel = f"cold: {order['cold']}" if "cold" in order else "forked"
        executed = None if execution.executed is None else base64.b64encode(execution.executed).decode()
        tell({"result": asdict(result), "executed": executed})
        code = 0
    except CourseError as error:
        tell({"refused": str(error)})
        code = 2
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        finish()


def _execute(execution: Execution, seed: Seed | None) -> Execution:
    from course.execution import provisioner

    provisioner.use(execution.request.cwd, execution.scratch, execution.watch, seed)
    module, _, function = execution.request.executor.partition(":")
    getattr(importlib.import_module(module), function)(execution)
    return execution


def _result(execution: Execution) -> Result:
    watch = execution.watch
    return Result(
        notebook=execution.request.notebook,
        status="cancelled" if watch.status == "cancelled" else execution.status,
        error=execution.error,
        cpu_seconds=round(watch.cpu_seconds, 3),
        wall_seconds=round(watch.wall_seconds, 3),
        peak_rss_bytes=watch.peak_rss_bytes,
        cells=execution.cells,
        metrics=execution.metrics,
        unreadable=execution.unreadable,
        versions=versions(),
        files=_digests(execution.scratch),
    )


def _digests(scratch: Path) -> dict[str, str]:
    """The digest of each file that the kernel read; "" for one that has changed since, or cannot be read any more."""
    from course.execution.inkernel import reading
    from course.execution.provisioner import NOTES

    read = sorted(reading.noted(scratch / NOTES).items())
    return {path: digest(path) if reading.state_of(path) == state else "" for path, state in read}


def digest(path: str | Path) -> str:
    """The SHA-256 of a file; of a folder that of the names, sizes and times of what lies in it; "" when it cannot be
    read.

    In a folder code and notebooks do not count: importing lists folders, and what is imported is noted by itself.
    """
    try:
        if not os.path.isdir(path):
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        told = []
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if not entry.name.startswith((".", "__pycache__")) and not entry.name.endswith((".py", ".pyc", ".ipynb")):
                status = entry.stat()
                told.append([entry.name, *([] if entry.is_dir() else [status.st_size, status.st_mtime_ns])])
        return hashlib.sha256(json.dumps(told).encode("utf-8", "surrogatepass")).hexdigest()
    except (OSError, ValueError):
        return ""


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
