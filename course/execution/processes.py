"""What belongs to a process that runs a notebook: how much it used, and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of <sys/prctl.h>


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """On Linux: send this process that signal when the thread that started it ends."""
    _prctl(_SET_PDEATHSIG, signal)


def confines(signal: int, file_bytes: int) -> Callable[[], None]:
    """For a kernel, between fork and what follows: it gets that signal when its parent ends, no file of it grows beyond
    so many bytes, and it dumps no core. Made ready before the fork, after which hardly anything is safe to call. Not on
    Windows.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    own: Any = resource
    file_bytes = min(file_bytes, 2**62)

    def confine() -> None:
        if prctl is not None:
            prctl(_SET_PDEATHSIG, signal, 0, 0, 0)
        for limit, most in ((own.RLIMIT_FSIZE, file_bytes), (own.RLIMIT_CORE, 0)):
            hard = own.getrlimit(limit)[1]
            own.setrlimit(limit, (most if hard == own.RLIM_INFINITY else min(most, hard), hard))

    return confine


def adopt_orphans() -> None:
    """On Linux: a process whose parent ends becomes this one's child, however detached, so that it can be found."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def signal_group(pid: int, number: int) -> None:
    """Send the signal to the process and those of its group, where it leads one."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(*GONE):
            process.kill()


def end_descendants(seconds: float = 5) -> None:
    """Kill every process below this one and wait until all are gone; those that appear meanwhile too."""
    deadline = time.monotonic() + seconds
    while descendants := psutil.Process().children(recursive=True):
        kill(descendants)
        psutil.wait_procs(descendants, timeout=0.2)
        if time.monotonic() > deadline:
            return


def end_marked(name: str, value: str, sessions: Collection[int] = ()) -> None:
    """Kill every process that has this variable in its environment or belongs to one of the sessions, except this one.

    The system shows the environment that a process was started with: one that was forked and has started no other
    program is found by its session.
    """
    for _ in range(3):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(*GONE, OSError):
                ours = process.environ().get(name) == value or (sessions and os.getsid(process.pid) in sessions)
                if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        if not found:
            return
        kill(found)
        psutil.wait_procs(found, timeout=1)


def children_usage() -> tuple[float, int]:
    """CPU seconds of this process and of its children that have ended, and the largest child's peak memory in bytes."""
    if resource is None:
        return 0.0, 0
    own: Any = resource.getrusage(resource.RUSAGE_SELF)
    children: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return seconds, children.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
