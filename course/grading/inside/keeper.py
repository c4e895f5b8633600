"""Who keeps a child of the template: a process outside the child's namespaces, in the same box.

It ends the child when the grader closes their socket, when the child takes more memory than it may, or more time; and
it says at the end how the child ended. The child cannot see it: its process numbers are another namespace's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import time
from typing import Any

from course.grading.inside import isolation

TICK = 0.2  # seconds between two looks at a child


def keep() -> None:
    """The life of one child, from outside. What a template's fork calls; it does not return."""
    request = json.loads(os.environ.pop("COURSE_ORDER"))
    keeper, given = socket.socket(fileno=os.dup(0)), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    isolation.hide()
    report: dict[str, Any] = {"ended": "failed to start"}
    try:
        child = os.fork()
        if child == 0:
            keeper.close()
            try:
                isolation.launch(request["limits"], [given], lambda: _enter(request["entry"], given))
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(71)
        os.close(given)
        report = _watch(keeper, child, request["limits"])
    except BaseException as error:
        report["ended"] = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(OSError):
            keeper.sendall(json.dumps(report).encode() + b"\n")
        os._exit(0)


def _enter(entry: str, given: int) -> None:
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(socket.socket(fileno=given))


def _watch(keeper: socket.socket, child: int, limits: dict[str, Any]) -> dict[str, Any]:
    end, ended, peak = time.monotonic() + limits["wall_seconds"], "", 0
    wake, said = os.pipe()
    os.set_blocking(said, False)
    signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            break
        ready, _, _ = select.select([keeper.fileno(), wake], [], [], TICK)
        if keeper.fileno() in ready:
            ended = "stopped"
        else:
            memory = _memory(child)
            peak = max(peak, memory)
            if memory > limits["memory_bytes"]:
                ended = "memory"
            elif time.monotonic() > end:
                ended = "time"
        if ended:
            os.kill(
                child, signal.SIGKILL
            )  # and its namespace's first process, which dies with it, and so everything in there
            _, status, used = os.wait4(child, 0)
            break
    code = os.waitstatus_to_exitcode(status)
    return {
        "ended": ended or "exit",
        "code": code,
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_bytes": max(peak, used.ru_maxrss * 1024),
    }


def _memory(root: int) -> int:
    """Bytes that a process and all below it have to themselves; pages that a fork shares with its template are not
    counted.
    """
    children: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
            with open(f"/proc/{name}/statm") as file:
                fields = file.read().split()
            sizes[int(name)] = (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += max(0, sizes.get(process, 0) - sizes.get(os.getpid(), 0))
        waiting += children.get(process, [])
    return total
