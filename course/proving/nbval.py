"""`pytest --nbval-lax` on one prepared notebook, in a process of its own (`python -m course.proving.nbval`), told cell
by cell.

nbval is pytest's plugin for notebooks: it runs every cell and compares the outputs of those tagged `nbval-check-output`
with the stored ones. Here it gets the kernel that `course run` gives a notebook: the same folder, environment and
guards."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from course.execution.clock import Clock
from course.execution.worker import END_SECONDS, MARK, START_SECONDS, Flag, Request, kernel_environment

CONFIGURATION = "[pytest]\naddopts =\n"  # the project's own options switch nbval off for the unit tests


@dataclass
class CellReport:
    """What nbval says of one code cell: its number among all cells of the notebook, and for a failure what and why."""

    cell: int
    outcome: str  # "passed", "failed" or "skipped"
    compared: bool = False
    message: str = ""
    traceback: str = ""
    expected: str | None = None
    got: str | None = None


@dataclass
class Report:
    """How the notebook fared; `error` says why nbval did not come to its end, when it did not."""

    cells: list[CellReport] = field(default_factory=list)
    error: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def failures(self) -> list[CellReport]:
        return [cell for cell in self.cells if cell.outcome == "failed"]


def validate(request: Request, cancel: Flag | None = None) -> Report:
    """Run nbval over `request.notebook`, a notebook that needs no parameters any more, and return when nothing of it is
    left.

    `request.output` and `request.parameters` are not used: nbval writes nothing, and the parameters stand in the
    notebook."""
    mark, started = uuid.uuid4().hex, time.monotonic()
    scratch = tempfile.mkdtemp(prefix="course-")
    try:
        with open(os.path.join(scratch, "nbval.log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "course.proving.nbval"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**kernel_environment(request), "IPYTHONDIR": os.path.join(scratch, "ipython"), MARK: mark},
                cwd=scratch,
                start_new_session=True,
            )
        report = Report()
        try:
            reader = threading.Thread(target=_read, args=(process, report), daemon=True)
            reader.start()
            with contextlib.suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.write(json.dumps({"request": asdict(request), "scratch": scratch}).encode() + b"\n")
                process.stdin.flush()
            clock, overdue = Clock(), START_SECONDS + request.wall_seconds
            while reader.is_alive():
                reader.join(0.1)
                if cancel is not None and cancel.is_set():
                    report.error = "cancelled"
                    break
                if clock.seconds() > overdue:
                    report.error = f"still running when the notebook had taken {request.wall_seconds:.0f} s, its limit"
                    break
        finally:
            _end(process, mark)
        if not report.error and not report.wall_seconds:
            said = Path(scratch, "nbval.log").read_text(errors="replace").strip().splitlines()
            report.error = f"pytest ended with {process.returncode}{f': {said[-1]}' if said else ''}"
        report.wall_seconds = report.wall_seconds or time.monotonic() - started
        return report
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read(process: subprocess.Popen[bytes], report: Report) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        for line in process.stdout:
            message = json.loads(line)
            if "cell" in message:
                report.cells.append(CellReport(**message["cell"]))
            else:
                report.error = message["error"]
                report.cpu_seconds, report.wall_seconds = message["cpu_seconds"], message["wall_seconds"]


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Let the process end by itself, which the end of its input tells it to, and look that nothing with its mark is
    left.
    """
    from course.execution import processes

    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    processes.end_marked(MARK, mark)


# --------------------------------------------------------------------------------------- python -m course.proving.nbval


class Reporter:
    """The pytest plugin that tells of each cell; after the first cell that raises, the rest would only fail with it."""

    def __init__(self, tell: Any) -> None:
        self.tell = tell
        self.numbers: dict[int, int] = {}
        self.error = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """nbval counts code cells only; reports count all."""
        for notebook in {item.parent for item in items}:
            code = [index for index, cell in enumerate(notebook.nb.cells) if cell.cell_type == "code"]
            self.numbers.update(enumerate(code))

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.error = str(report.longrepr).strip().splitlines()[-1]

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """After set-up, run and end of each cell; `makereport` knows the cell and its outputs, the later hooks do
        not."""
        from course.execution.client import plain

        error = None if call.excinfo is None else call.excinfo.value
        if call.when != "call" and error is None:
            return
        compared = bool(item.options["check"]) and not item.options["skip"]
        report = CellReport(self.numbers[item.cell_num], "passed", compared)
        if error is not None:
            skipped = type(error).__name__ == "Skipped"
            report.outcome = "skipped" if skipped else "failed"
            report.message = str(error).strip() or type(error).__name__
            report.traceback = plain(str(getattr(error, "inner_traceback", "") or "")).strip()
            if report.message == "Cell outputs differ":
                report.expected, report.got = _text(item.cell.outputs), _text(item.test_outputs or [])
                report.traceback = ""
            elif not skipped:
                item.session.shouldstop = "a cell failed"
        self.tell({"cell": asdict(report)})


def _text(outputs: list[Any]) -> str:
    """What a reader sees of a cell's outputs, as text."""
    parts = []
    for output in outputs:
        bundle = output.get("data", {})
        parts.append(output.get("text") or bundle.get("text/plain") or f"[{', '.join(bundle)}]\n")
    return "".join("".join(part) if isinstance(part, list) else str(part) for part in parts)


@contextlib.contextmanager
def _kernels_of_the_course(request: Request, scratch: Path) -> Iterator[None]:
    """Let nbval start its kernels as `course.execution.client` does, and see when one dies."""
    import nbval.kernel
    import nbval.plugin
    from jupyter_client.manager import KernelManager

    from course.execution import processes
    from course.execution.inkernel import flood

    guard = f"__import__('runpy').run_path({flood.__file__!r})['install']({request.output_bytes});"
    prepare = processes.dies_with_parent(signal.SIGKILL) if os.name == "posix" else None

    class Manager(KernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.connection_file = str(scratch / "kernel.json")
            if os.name == "posix":
                self.transport, self.ip = "ipc", str(scratch / "kernel")

        def start_kernel(self, **options: Any) -> Any:
            arguments = [f"--IPKernelApp.exec_lines={guard}"]
            options.update(cwd=request.cwd, preexec_fn=prepare, extra_arguments=arguments)
            return super().start_kernel(**options)

    class Kernel(nbval.kernel.RunningKernel):
        def get_message(self, stream: str, timeout: float | None = None) -> Any:
            clock, limit = Clock(), float("inf") if timeout is None else timeout
            while True:
                try:
                    message = super().get_message(stream, min(1.0, max(0.05, limit - clock.seconds())))
                except queue.Empty:
                    if not self.is_alive():
                        raise RuntimeError("the kernel died") from None
                    if clock.seconds() >= limit:
                        raise
                    continue
                if message["msg_type"] == flood.MESSAGE:
                    raise RuntimeError(f"printed more than {request.output_bytes:,} bytes")
                return message

    originals = nbval.kernel.KernelManager, nbval.plugin.RunningKernel
    nbval.kernel.KernelManager, nbval.plugin.RunningKernel = Manager, Kernel
    try:
        yield
    finally:
        nbval.kernel.KernelManager, nbval.plugin.RunningKernel = originals


def _run(request: Request, scratch: Path, tell: Any) -> None:
    """Run pytest on the notebook in this process."""
    import pytest

    from course.execution import processes

    configuration = scratch / "pytest.ini"
    configuration.write_text(CONFIGURATION)
    reporter = Reporter(tell)
    arguments = [
        "--nbval-lax",
        f"--nbval-cell-timeout={request.cell_seconds}",
        f"--nbval-kernel-startup-timeout={START_SECONDS}",
        *("-c", str(configuration), "--rootdir", str(scratch), "-p", "no:cacheprovider", "--color=no", "-q"),
        request.notebook,
    ]
    with processes.Usage() as usage:
        with _kernels_of_the_course(request, scratch):
            status = int(pytest.main(arguments, plugins=[reporter]))
        processes.end_descendants()
    error = reporter.error
    if status not in (0, 1, 2) and not error:
        error = {5: "no code cell was found"}.get(status, f"pytest ended with status {status}")
    tell({"error": error, "cpu_seconds": usage.cpu_seconds, "wall_seconds": usage.wall_seconds})


def main() -> None:
    """Read a request from standard input, run nbval, tell on standard output; end when the input ends."""
    from course.execution import processes

    outlet = os.dup(1)
    os.dup2(2, 1)  # pytest's own words go to the log
    order = json.loads(sys.stdin.readline())  # nothing else is sent

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(outlet, data) :]

    def finish(code: int) -> None:
        processes.end_descendants()
        if code:
            shutil.rmtree(order["scratch"], ignore_errors=True)  # the parent, who made it, may be gone
        os._exit(code)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        finish(1)

    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: finish(1))
    processes.adopt_orphans()
    processes.die_with_parent(signal.SIGTERM)
    threading.Thread(target=watch, daemon=True).start()
    try:
        _run(Request(**order["request"]), Path(order["scratch"]), tell)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        processes.end_descendants()
        os._exit(2)
    finish(0)


if __name__ == "__main__":
    main()
