"""The host's side of a warm template: start it, have it fork children, stop them."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from course.grading import sandbox
from course.grading.sandbox import INSIDE, Limits
from course.errors import CourseError

WARM_SECONDS = 180.0  # a template's imports, on a busy machine


class Child:
    """One child of a template. `close` ends it; `report` says how it ended."""

    def __init__(self, keeper: socket.socket) -> None:
        self._keeper = keeper
        self._report: dict[str, Any] | None = None

    def close(self, grace: float = 0.0, wait: float = 10.0) -> dict[str, Any]:
        """End it, after a time of grace to end by itself, and say how it ended.

        Returns:
            `ended` (exit, stopped, memory, time), `code`, `cpu_seconds`, `peak_bytes`.
        """
        if self._report is None and not (grace and self.report(grace)):
            with contextlib.suppress(OSError):
                self._keeper.shutdown(socket.SHUT_WR)
            self.report(wait)
            self._keeper.close()
        return self._report or {"ended": "lost"}

    def report(self, wait: float | None = None) -> dict[str, Any] | None:
        """How it ended; None when it has not, after so many seconds (None: as long as it takes)."""
        if self._report is None and select.select([self._keeper], [], [], wait)[0]:
            with contextlib.suppress(OSError, ValueError):
                self._report = json.loads(self._keeper.recv(65536) or b'{"ended": "lost"}')
        return self._report


class Template:
    """A warm process in a box. Its children see `mounts` and nothing else of this machine.

    Args:
        modules: what it imports before the first fork.
        mounts: (path here, path inside), read-only.
        environment: variables inside.
        boxed: False runs it without any box, which is for those who trust every submission.
    """

    def __init__(
        self,
        modules: Sequence[str],
        mounts: Sequence[tuple[Path, str]],
        environment: Mapping[str, str],
        threads: int = 1,
    ) -> None:
        self._modules, self._mounts = list(modules), list(mounts)
        self._environment = {
            "HOME": "/scratch",
            "PATH": f"{sandbox.PYTHON.parent}:/usr/bin:/bin",
            "PYTHONPATH": INSIDE,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "MPLBACKEND": "agg",
            "MPLCONFIGDIR": "/tmp/matplotlib",
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": "1",
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "-1",
            **environment,
        }
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._log = tempfile.TemporaryFile()

    def start(self) -> None:
        """Start it unless it runs. CourseError when it does not get ready."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [str(sandbox.PYTHON), "-m", "course.grading.inside.template", str(theirs.fileno()), *self._modules]
        command = sandbox.box(self._mounts, self._environment, program)
        self._process = subprocess.Popen(
            command,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._control = ours
        end = time.monotonic() + WARM_SECONDS
        while time.monotonic() < end and not select.select([ours], [], [], 0.5)[0]:
            if self._process.poll() is not None:
                break
        answer: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            ours.setblocking(False)
            answer = json.loads(ours.recv(65536))
        ours.setblocking(True)
        if not answer.get("ready"):
            said = answer.get("error") or self.last_words() or "it ended without a word"
            self._stop()
            raise CourseError(f"the grader's template does not start: {said}", 1)

    def fork(self, entry: str, limits: Limits, *sockets: socket.socket) -> Child:
        """A child that runs `entry` (`module:function`) on these sockets, which are its own from then on."""
        with self._lock:
            self._start()
            assert self._control is not None
            ours, theirs = socket.socketpair()
            request = json.dumps({"entry": entry, "limits": limits.as_dict()}).encode()
            socket.send_fds(self._control, [request], [theirs.fileno(), *(given.fileno() for given in sockets)])
        theirs.close()
        for given in sockets:
            given.close()
        return Child(ours)

    def last_words(self) -> str:
        """The last line that the template or a child of it wrote before it had a sandbox of its own."""
        self._log.seek(0)
        lines = self._log.read()[-20_000:].decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._control = None
