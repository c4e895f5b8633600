"""Which files a notebook reads: modules of Python's, files that it opens, folders that it lists.

Left out is what belongs to the Python installation or the system, what the notebook has written itself, and what a
program that is no Python opens (TensorFlow's own readers). A file is noted with its size and time when the cell ends
that read it, and at once written to a file of the run: a kernel may be killed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/run", "/var")

State = list[int]  # size in bytes and time of the last change in ns; of a folder: number of entries, 0


def install(notes: str) -> Callable[[], None]:
    """Begin; the function adds what was read since it was called last to the file `notes`, a line of JSON for each
    path.
    """
    opened: set[str] = set()
    written: set[str] = set()
    told: set[str] = set()
    modules = set(sys.modules)
    outside = _installed()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, os.PathLike)):
                writes = isinstance(flags, int) and flags & _WRITES
                if not (writes and os.path.isdir(path)):  # a file without a name is asked of its folder
                    (written if writes else opened).add(_absolute(path))
        elif event in ("os.listdir", "os.scandir") and isinstance(arguments[0], (str, os.PathLike)):
            opened.add(_absolute(arguments[0]))
        elif event == "os.mkdir" and not os.path.exists(arguments[0]):  # else it is only asked for: nobody made it here
            written.add(_absolute(arguments[0]))

    def add() -> None:
        new = set(sys.modules) - modules
        modules.update(new)
        paths = {str(getattr(sys.modules.get(name), "__file__", None) or "") for name in new} | set(opened)
        opened.difference_update(paths)
        lines = []
        own = tuple(path + os.sep for path in written)
        for path in paths - told - written - {os.getcwd(), *map(os.path.abspath, sys.path)}:
            told.add(path)
            if not path.endswith((".pyc", ".lock")) and not path.startswith((*outside, *own)):
                state = state_of(path)
                if state is not None:
                    lines.append(json.dumps([path, state]) + "\n")
        if lines:
            with contextlib.suppress(OSError), open(notes, "a", encoding="utf-8") as file:
                file.writelines(lines)

    sys.addaudithook(hook)
    return add


def noted(notes: str | os.PathLike[str]) -> dict[str, State]:
    """What a kernel has written there."""
    found: dict[str, State] = {}
    with contextlib.suppress(OSError, ValueError), open(notes, encoding="utf-8") as file:
        for line in file:
            path, state = json.loads(line)
            found[path] = state
    return found


def state_of(path: str) -> State | None:
    """Size and time of the file; of a folder the number of its entries; None when there is neither."""
    try:
        if os.path.isdir(path):
            return [len(os.listdir(path)), 0]
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        return None


def _absolute(path: Any) -> str:
    try:
        return os.path.abspath(os.fsdecode(path))
    except (OSError, ValueError):
        return ""


def _installed() -> tuple[str, ...]:
    """The beginnings of paths that are the installation's, the system's or this run's own."""
    folders = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), site.getuserbase(), *_SYSTEM}
    folders |= {
        os.path.expanduser("~/." + name) for name in ("cache", "config", "local", "ipython", "jupyter", "keras")
    }
    folders |= {
        os.environ.get("IPYTHONDIR", ""),
        os.environ.get("KERAS_HOME", ""),
        os.path.join(tempfile.gettempdir(), "course-"),
        os.path.dirname(__file__),
    }
    ends = {folder if folder.endswith("-") else folder.rstrip(os.sep) + os.sep for folder in folders if folder}
    return tuple(ends)
