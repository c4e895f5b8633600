"""How much one cell may print, counted twice: where the output is made and where it is read.

In the kernel (`install`, run there by `runpy`, so it imports the standard library only) output past the limit is
dropped
before it is buffered, encoded or queued: a cell that prints without end, or prints one giant text, costs no memory
while it waits for its interrupt. In the process that reads, `Meter` counts again, for a kernel without this guard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

MESSAGE = "course_flood"  # what the kernel sends instead of the output that was too much
OVERHEAD = 256  # bytes that a message costs besides its text; an endless stream of empty ones is a flood too
REPLACED = 20  # how many times the limit may be sent when each output replaces the last one, as live curves do


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
        if kind in ("status", "execute_input", MESSAGE):
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


def install(limit: int) -> None:
    """In the kernel: let each cell send `limit` bytes, then announce a flood and drop the rest of its output."""
    import contextlib
    import sys

    import zmq
    from IPython import get_ipython

    shell = get_ipython()
    kernel = shell.kernel
    session, send, socket = kernel.session, kernel.session.send, kernel.iopub_socket
    guard = _Guard(limit, lambda parent: send(socket, MESSAGE, {}, parent=parent))

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
        origin = message.get("parent_header") if isinstance(message, dict) else parent
        if kind == "shutdown_reply":  # ipykernel may now flush to a thread that has ended, and wait 10 s for it
            for output in (sys.stdout, sys.stderr):
                output.flush_timeout = 0.1  # type: ignore[union-attr]
        if kind == "execute_reply":
            if body and weigh(body) > limit:  # an error whose text is giant
                body.update(evalue=str(body.get("evalue", ""))[:1000], traceback=[])
        elif not kind.endswith("_reply") and not guard.admits(kind, body, origin, buffers):
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
    # IPython 9 keeps a copy of all that is printed, and puts the streams' `write` back at the end of each cell, of
    # which the one that calls this function is one.
    shell._tee = lambda channel: contextlib.nullcontext()
    shell.events.register("pre_execute", before_the_first_cell)


class _Guard:
    """The kernel's meter; several threads print."""

    def __init__(self, limit: int, announce: Callable[[Any], Any]) -> None:
        self.meter = Meter(limit)
        self.waiting = 0  # bytes that streams have buffered and not yet sent
        self.flooded = False
        self.cell: Any = None  # the request that runs the cell: announcements belong to it, whichever thread printed
        self.announce = announce
        self.lock = threading.RLock()

    def admits(self, kind: str, content: Any, parent: Any, buffers: Any) -> bool:
        with self.lock:
            if kind == "execute_input":
                self.meter.start()
                self.flooded, self.waiting, self.cell = False, 0, parent
            elif kind == "stream":
                self.waiting = max(0, self.waiting - len(content["text"]))
            if kind in ("status", "execute_input"):
                return True
            return not self.flooded and (self.meter.admits(kind, content, buffers) or self._flood())

    def writes(self, size: int) -> bool:
        with self.lock:
            if self.flooded:
                return False
            if self.meter.held + self.waiting + size > self.meter.limit:
                return self._flood()
            self.waiting += size
            return True

    def _flood(self) -> bool:
        self.flooded = True
        self.announce(self.cell)
        return False
