"""A warm process that has imported TensorFlow, Keras and the course's utilities, and forks a sandboxed child for each request.

    python -m course.grading.inside.template NUMBER MODULE ...

NUMBER is an inherited Unix socket. A request is one message: JSON `{"entry": "module:function", "limits": {...}}` with file
descriptors behind it. The first belongs to the child's keeper, the others are the child's own, whose entry is called with them as
sockets. The keeper stays outside the child's namespaces: it ends the child when its socket is closed by the other side, when the child
takes more memory than it may or more time, and says at the end how it ended.

A fork is safe only before TensorFlow's first operation, which starts threads that a fork does not have; the template asserts that.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from course.grading.inside import isolation

TICK = 0.2  # seconds between two looks at a child


def main(arguments: Sequence[str]) -> None:
    number, *modules = arguments
    control = socket.socket(fileno=int(number))
    try:
        for name in modules:
            importlib.import_module(name)
        _nothing_ran()
    except BaseException as error:
        control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        raise
    isolation.hide()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started all this; he closes the socket
    control.sendall(b'{"ready": true}\n')
    while True:
        message, numbers, _, _ = socket.recv_fds(control, 65536, 8)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _keep(json.loads(message), numbers)
        for given in numbers:
            os.close(given)


def _nothing_ran() -> None:
    context = sys.modules.get("tensorflow.python.eager.context")
    current = getattr(context, "_context", None)
    if current is not None and current._initialized:
        raise RuntimeError("an operation of TensorFlow ran before the fork")


def _keep(request: dict[str, Any], numbers: list[int]) -> None:
    """The life of one child, from outside. Does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keeper = socket.socket(fileno=numbers[0])
    report: dict[str, Any] = {"ended": "failed to start"}
    try:
        child = os.fork()
        if child == 0:
            keeper.close()
            try:
                isolation.launch(request["limits"], numbers[1:], lambda: _enter(request, numbers[1:]))
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(71)
        for number in numbers[1:]:
            os.close(number)
        report = _watch(keeper, child, request["limits"])
    except BaseException as error:
        report["ended"] = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(OSError):
            keeper.sendall(json.dumps(report).encode() + b"\n")
        os._exit(0)


def _enter(request: dict[str, Any], numbers: list[int]) -> None:
    module, _, function = request["entry"].partition(":")
    getattr(importlib.import_module(module), function)(*(socket.socket(fileno=number) for number in numbers))


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
        ready, _, _ = select.select([keeper, wake], [], [], TICK)
        if keeper in ready:
            ended = "stopped"
        else:
            memory = _memory(child)
            peak = max(peak, memory)
            if memory > limits["memory_bytes"]:
                ended = "memory"
            elif time.monotonic() > end:
                ended = "time"
        if ended:
            os.kill(child, signal.SIGKILL)  # and its namespace's first process, which dies with it, and so everything in there
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
    """Bytes that a process and all below it have to themselves; pages that a fork shares with its template are not counted."""
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


if __name__ == "__main__":
    main(sys.argv[1:])
