"""What belongs to a process that runs a notebook: how much it used, and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of <sys/prctl.h>


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """On Linux: send this process that signal when the thread that started it ends."""
    _prctl(_SET_PDEATHSIG, signal)


def dies_with_parent(signal: int) -> Callable[[], None] | None:
    """For `preexec_fn`: the same, made ready before the fork, where hardly anything is safe to call."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_PDEATHSIG, signal, 0, 0, 0)


def adopt_orphans() -> None:
    """On Linux: a process whose parent ends becomes this one's child, however it was detached, so that it can be
    found."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(*_GONE):
            process.kill()


def end_descendants(seconds: float = 5) -> None:
    """Kill every process below this one and wait until all are gone; those that appear meanwhile too."""
    deadline = time.monotonic() + seconds
    while descendants := psutil.Process().children(recursive=True):
        kill(descendants)
        psutil.wait_procs(descendants, timeout=0.2)
        if time.monotonic() > deadline:
            return


def end_marked(name: str, value: str) -> None:
    """Kill every process that has this variable in its environment, except this one."""
    for _ in range(3):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(*_GONE, OSError):
                if process.pid != os.getpid() and process.environ().get(name) == value:
                    found.append(process)
        if not found:
            return
        kill(found)
        psutil.wait_procs(found, timeout=1)


class Usage:
    """CPU seconds and peak memory of this process and all below it, from `with` to its end.

    Memory is the sum of the resident sets, sampled; the system's own peak of the largest single process counts where
    that is more, so that a short peak is not missed."""

    def __init__(self, interval: float = 0.2, rescan: float = 1.0) -> None:
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0
        self.peak_rss_bytes = 0
        self._interval, self._rescan = interval, rescan
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="usage", daemon=True)

    def __enter__(self) -> Usage:
        self._start = time.monotonic()
        self._before = _counted()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.wall_seconds = time.monotonic() - self._start
        seconds, largest = _counted()
        self.cpu_seconds = max(self.cpu_seconds, seconds - self._before[0])
        if not self._before[1]:  # otherwise the peak may be that of an earlier child
            self.peak_rss_bytes = max(self.peak_rss_bytes, largest)

    def _sample(self) -> None:
        this = psutil.Process()
        processes, scanned = [this], -self._rescan
        spent: dict[int, float] = {}
        while True:
            now = time.monotonic()
            if now - scanned >= self._rescan:
                with contextlib.suppress(*_GONE):
                    processes = [this, *this.children(recursive=True)]
                scanned = now
            total = 0
            for process in processes:
                with contextlib.suppress(*_GONE):
                    total += process.memory_info().rss
                    if resource is None:
                        times = process.cpu_times()
                        spent[process.pid] = times.user + times.system
            self.peak_rss_bytes = max(self.peak_rss_bytes, total)
            self.cpu_seconds = max(self.cpu_seconds, sum(spent.values()))
            if self._end.wait(self._interval):
                return


def _counted() -> tuple[float, int]:
    """CPU seconds of this process and of its children that have ended, and the largest child's peak memory in bytes."""
    if resource is None:
        return 0.0, 0
    own: Any = resource.getrusage(resource.RUSAGE_SELF)
    children: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return seconds, children.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
