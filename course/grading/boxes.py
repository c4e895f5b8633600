"""Warm templates in boxes, as `course.execution.template` makes them, and their sandboxed children."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.execution.template import Template, Unavailable
from course.grading import sandbox
from course.grading.sandbox import INSIDE, Limits

KEEPER = "course.grading.inside.keeper:keep"


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


class Box:
    """A warm template in a box. Its children see `mounts` and nothing else of this machine.

    Args:
        modules: what it imports before the first fork.
        mounts: (path here, path inside), read-only.
        environment: variables inside, beside the fixed ones.
        boxed: False runs it without a box: for those who trust every submission.
        threads: of each child's TensorFlow and NumPy; they change results in the last places.
    """

    def __init__(
        self,
        modules: Sequence[str],
        mounts: Sequence[tuple[Path, str]],
        environment: Mapping[str, str],
        boxed: bool = True,
        threads: int = 1,
    ) -> None:
        self._modules, self._mounts, self._boxed = list(modules), list(mounts), boxed
        self._folder = None if boxed else tempfile.TemporaryDirectory(prefix="course-grade-")
        root = INSIDE if self._folder is None else self._folder.name
        self._environment = {
            "HOME": "/scratch" if self._folder is None else self._folder.name,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": root,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "LANG": "C.UTF-8",
            "MPLBACKEND": "agg",
            "MPLCONFIGDIR": "/tmp/matplotlib",
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "-1",
            **environment,
        }
        self._lock = threading.Lock()
        self._template: Template | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object

    def fork(self, entry: str, limits: Limits, given: socket.socket) -> Child:
        """A child that runs `entry` (`module:function`) on this socket, which is its own from then on.

        Raises:
            CourseError: the template cannot be started.
        """
        ours, theirs = socket.socketpair()
        order = json.dumps({"entry": entry, "limits": limits.as_dict()})
        files = [theirs.fileno(), given.fileno(), self._log.fileno()]
        try:
            for last in (False, True):  # once more with a new template, should it have ended
                try:
                    self._ready(anew=last).fork(KEEPER, files, {"COURSE_ORDER": order})
                    return Child(ours)
                except Unavailable as error:
                    if last:
                        said = self.last_words() or str(error)
                        raise CourseError(f"the grader's template does not start: {said}", 1) from None
            raise AssertionError
        finally:
            theirs.close()
            given.close()

    def _ready(self, anew: bool) -> Template:
        with self._lock:
            if anew and self._template is not None:
                self._template.close()
                self._template = None
            if self._template is None:
                prefix = sandbox.box(self._mounts) if self._folder is None else self._linked(self._folder.name)
                self._template = Template(self._environment, self._modules, prefix)
            return self._template

    def _linked(self, folder: str) -> list[str]:
        """Without a box: what would be mounted is linked into a folder. No command stands before the template's."""
        for source, target in self._mounts:
            link = Path(folder, Path(target).name)
            if not link.exists():
                link.symlink_to(source)
        return []

    def last_words(self) -> str:
        """The last line that a child wrote before it had a sandbox of its own."""
        self._log.seek(0)
        lines = self._log.read()[-20_000:].decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        with self._lock:
            if self._template is not None:
                self._template.close()
                self._template = None
