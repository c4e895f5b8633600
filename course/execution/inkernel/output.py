"""How much one cell may print, counted where the output is made: in the kernel.

Output past the limit is dropped before it is buffered, encoded or queued, so a cell that prints without end, or prints
one giant text, costs no memory. The cell is ended by the error `OutputLimit`, raised where it prints; when it goes on
all the same, the kernel ends itself with the exit code ENDED. Whoever executes the cell, papermill or nbval, sees an
error like any other. `Meter` counts a second time in the process that reads, for a notebook that has taken the guard
away.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

ENDED = 86  # exit code of a kernel whose cell printed too much and did not let itself be ended
GRACE = 10.0  # seconds that such a cell has
OVERHEAD = 256  # bytes that a message costs besides its text; an endless stream of empty ones is too much too
REPLACED = 20  # how many times the limit may be sent when each output replaces the last one, as live curves do


class OutputLimit(BaseException):
    """A cell printed too much. No `except Exception` of a notebook's catches it."""


def too_much(limit: int) -> str:
    return f"printed more than {limit:,} bytes"


def weigh(value: Any) -> int:
    """About how many bytes this content has, without encoding it."""
    total, left = 0, [value]
    while left:
        part = left.pop()
        if isinstance(part, (str, bytes, bytearray)):
            total += len(part)
        elif isinstance(part, memoryview):
            total += part.nbytes
        elif isinstance(part, dict):
            left.extend(part.keys())
            left.extend(part.values())
        elif isinstance(part, (list, tuple)):
            left.extend(part)
        else:
            total += 8
    return total


class Meter:
    """Counts what one cell sends: what the notebook will hold, and all that went by."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.sent = 0

    def start(self) -> None:
        """Begin a cell."""
        self.held = self.sent = 0

    def admits(self, kind: str, content: Any, buffers: Any = None) -> bool:
        """Whether the cell may send this as well; counts it if so."""
        if kind in ("status", "execute_input"):
            return True
        size = weigh(content) + OVERHEAD + sum(memoryview(part).nbytes for part in buffers or ())
        replaces = kind == "update_display_data" or kind.startswith("comm_")
        held = size if replaces else self.held + size
        if held > self.limit or self.sent + size > REPLACED * self.limit:
            return False
        self.sent += size
        if kind == "clear_output":
            self.held = 0
        elif not replaces:
            self.held = held
        return True


def interrupt_main() -> None:
    """End what the main thread does; where there are real signals by one, since it may wait inside a call of the
    system's.
    """
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


class _Guard:
    """The kernel's meter; several threads print."""

    def __init__(self, limit: int) -> None:
        self.meter = Meter(limit)
        self.waiting = 0  # bytes that streams have buffered and not yet sent
        self.beyond = self.told = False
        self.lock = threading.RLock()
        self.timer: threading.Timer | None = None

    def start(self) -> None:
        """Begin a cell."""
        with self.lock:
            self.meter.start()
            self.beyond, self.told, self.waiting = False, False, 0

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def sends(self, kind: str, content: Any, buffers: Any) -> bool:
        with self.lock:
            if kind == "stream":
                self.waiting = max(0, self.waiting - len(content["text"]))
            fits = not self.beyond and self.meter.admits(kind, content, buffers)
        return fits or self.refuse()

    def writes(self, size: int) -> bool:
        with self.lock:
            fits = not self.beyond and self.meter.held + self.waiting + size <= self.meter.limit
            self.waiting += size if fits else 0
        return fits or self.refuse()

    def refuse(self) -> bool:
        """End the cell, the first time; drop what it prints after that. False unless it raises.

        Raises:
            OutputLimit: in the thread that runs the cell.
        """
        with self.lock:
            first, self.beyond = not self.beyond, True
        if first:
            self.timer = threading.Timer(GRACE, os._exit, (ENDED,))
            self.timer.daemon = True
            self.timer.start()
            if threading.current_thread() is threading.main_thread():
                raise OutputLimit(too_much(self.meter.limit))
            interrupt_main()
        return False

    def error(self) -> dict[str, Any]:
        return {"ename": OutputLimit.__name__, "evalue": too_much(self.meter.limit), "traceback": []}


def install(limit: int, at_end: Callable[[], None]) -> None:
    """In the kernel: let each cell print `limit` bytes, and call `at_end` before the reply to each is sent."""
    import zmq
    from IPython import get_ipython

    shell = get_ipython()
    kernel = shell.kernel
    session, send, socket = kernel.session, kernel.session.send, kernel.iopub_socket
    guard = _Guard(limit)

    def guarded(
        stream: Any,
        message: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Any = None,
        **named: Any,
    ) -> Any:
        kind = message["msg_type"] if isinstance(message, dict) else message
        body = message.get("content") if isinstance(message, dict) else content
        if kind == "execute_input":
            guard.start()
        elif kind == "shutdown_reply":  # ipykernel may now flush to a thread that has ended, and wait 10 s for it
            for output in (sys.stdout, sys.stderr):
                output.flush_timeout = 0.1  # type: ignore[union-attr]
        elif kind in ("error", "execute_reply") and isinstance(body, dict):
            guard.end()
            if weigh(body) > limit:  # an error whose text is giant
                guard.beyond, body["traceback"] = True, []
            if guard.beyond:  # whatever the cell made of its interrupt
                error = guard.error()
                if kind == "execute_reply":
                    if not guard.told:
                        send(socket, "error", error, parent=parent)
                    body["status"] = "error"
                guard.told = True
                body.update(error, traceback=body.get("traceback") or [])
            if kind == "execute_reply":
                at_end()
        elif kind != "status" and not kind.endswith("_reply") and not guard.sends(kind, body, buffers):
            return None
        return send(stream, message, content, parent, ident, buffers, **named)

    def limited(stream: Any) -> Callable[[Any], Any]:
        write = stream.write

        def write_within_limit(text: Any) -> Any:
            if isinstance(text, str) and not guard.writes(len(text)):
                return len(text)
            return write(text)

        return write_within_limit

    def before_the_first_cell() -> None:
        # By default a queue longer than 1000 messages loses the rest in silence, a metric among them, say. With the
        # guard no queue grows large. ZeroMQ changes connections that there are, not those to come, so this must wait
        # for the reader, which asks for nothing before it hears.
        thread = socket.io_thread
        thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))
        for stream in (sys.stdout, sys.stderr):
            stream.write = limited(stream)  # type: ignore[method-assign]
        shell.events.unregister("pre_execute", before_the_first_cell)

    session.send = guarded
    shell._tee = lambda channel: contextlib.nullcontext()  # IPython 9 keeps a copy of all that is printed
    shell.events.register("pre_execute", before_the_first_cell)
