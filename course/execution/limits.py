"""What one notebook may use, and the thread that watches it: CPU seconds, time on the clock, printed bytes, written
bytes.

Limits are there to end what hangs or runs away. CPU seconds are those of all processes of the notebook together, so
that a busy machine costs a notebook nothing; the limit on the clock, for what waits without computing, is much wider
and says what it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from course.execution.processes import GONE, children_usage, signal_group

INTERVAL = 0.2  # seconds from one look to the next
RESCAN = 1.0  # seconds from one search for new processes to the next: it reads about every process of the machine
GRACE = 10.0  # seconds that a cell has to end after its interrupt, before its kernel is killed


@dataclass(frozen=True)
class Limits:
    """CPU seconds and written bytes count all processes of the notebook; printed bytes are those of one cell."""

    cpu_seconds: float = 3600.0
    wall_seconds: float = 7200.0
    output_bytes: int = 5_000_000
    file_bytes: int = 8_000_000_000


class Watch:
    """Counts what this process and all below it use, from `with` to its end, and stops a kernel that goes beyond the
    limits.

    `status` is "" until something stops the notebook: then "timeout", "flooded" or "cancelled", with `why` in words.
    Memory is the sum of the resident sets of the processes below this one; `peak_rss_bytes` is the largest that was
    seen.
    """

    def __init__(self, limits: Limits, on_kernel: Callable[[int], None] = lambda pid: None) -> None:
        self.limits = limits
        self._on_kernel = on_kernel
        self.status = self.why = ""
        self.cpu_seconds = self.wall_seconds = 0.0
        self.peak_rss_bytes = 0
        self.on_death: Callable[[], None] | None = None  # called once when the kernel ends while a cell runs
        self._kernel: Any = None  # a Popen, or what offers the same
        self._running = False
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="limits", daemon=True)
        self._cpu: dict[int, float] = {}  # of processes by their id, as last seen
        self._written: dict[int, int] = {}

    def __enter__(self) -> Watch:
        self._start, self._before = time.monotonic(), children_usage()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.wall_seconds = time.monotonic() - self._start
        seconds, largest = children_usage()
        self.cpu_seconds = max(self.cpu_seconds, seconds - self._before[0])
        if not self._before[1]:  # otherwise the system's own peak may be that of an earlier child
            self.peak_rss_bytes = max(self.peak_rss_bytes, largest)

    # ------------------------------------------------------------------------------------------- what the client tells

    def kernel_started(self, process: Any) -> None:
        """`process` has `pid` and `poll`, as a `subprocess.Popen` has."""
        self._kernel = process
        self._on_kernel(process.pid)
        if self.status:
            self._signal("SIGKILL")

    def exit_code(self) -> int | None:
        """That of the kernel: minus the number of the signal that killed it; None while it lives."""
        return None if self._kernel is None else self._kernel.poll()

    def cell_began(self) -> None:
        self._running = True

    def cell_ended(self) -> None:
        self._running = False

    def stop(self, status: str, why: str) -> None:
        """End the cell that runs: it is interrupted, and its kernel killed when it goes on all the same. The first
        reason counts.
        """
        with self._lock:
            if self.status:
                return
            self.status, self.why = status, why
        threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        self._signal("SIGINT")
        deadline = time.monotonic() + GRACE
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._running:
            self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        if self._kernel is not None:
            signal_group(self._kernel.pid, getattr(signal, name, signal.SIGTERM))

    # ------------------------------------------------------------------------------------------------------- looking

    def _look(self) -> None:
        this = psutil.Process()
        below: dict[int, psutil.Process] = {}
        scanned = -RESCAN
        while not self._end.wait(INTERVAL):
            now = time.monotonic()
            if now - scanned >= RESCAN:
                with contextlib.suppress(*GONE):
                    below.update({process.pid: process for process in this.children(recursive=True)})
                scanned = now
            # Each process before those below it: one that ends meanwhile is missing this once, never twice there.
            self._count(this)
            resident = [self._count(process) for process in below.values()]
            below = {pid: process for pid, process in below.items() if pid in self._cpu}
            self.peak_rss_bytes = max(self.peak_rss_bytes, sum(resident))
            self.cpu_seconds = max(self.cpu_seconds, sum(self._cpu.values()) - self._before[0])
            self._judge(now - self._start)
            self._see_death()

    def _count(self, process: psutil.Process) -> int:
        """Note the CPU seconds and written bytes of a process; its resident set in bytes. Forget one that has ended."""
        try:
            times = process.cpu_times()
        except GONE:
            self._cpu.pop(process.pid, None)
            return 0
        # What has ended below a process counts there once it was waited for, and no longer by itself.
        ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        self._cpu[process.pid] = times.user + times.system + ended
        with contextlib.suppress(*GONE):
            if hasattr(process, "io_counters"):
                counters: Any = process.io_counters()
                self._written[process.pid] = getattr(counters, "write_chars", counters.write_bytes)
            return int(process.memory_info().rss)
        return 0

    def _judge(self, wall: float) -> None:
        limits = self.limits
        if self.cpu_seconds > limits.cpu_seconds:
            self.stop(
                "timeout",
                f"used more than {seconds_in_words(limits.cpu_seconds)} of CPU time, the limit of this notebook",
            )
        elif wall > limits.wall_seconds:
            used = seconds_in_words(self.cpu_seconds)
            self.stop(
                "timeout",
                f"took {seconds_in_words(wall)} on the clock, the wall limit is "
                f"{seconds_in_words(limits.wall_seconds)} "
                f"({used} of it CPU time)",
            )
        elif sum(count for pid, count in self._written.items() if pid != os.getpid()) > limits.file_bytes:
            self.stop("flooded", f"wrote more than {limits.file_bytes:,} bytes to files")

    def _see_death(self) -> None:
        if self._kernel is None or not self._running or self.on_death is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(self._kernel.pid).status() != psutil.STATUS_ZOMBIE:
                return
        told, self.on_death = self.on_death, None
        told()


def seconds_in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
