"""Results of earlier runs, found by content: what has passed before with the same content is not run again.

No notebook library is imported: a warm run of the whole course answers within seconds. The content of a notebook is its
code cells, its parameters, the lock, Python, the threads of its kernel, and the data it is given from outside. What
else a notebook depends on, the kernel has told: modules, files, folders; an entry holds their digests, and serves while
they are the same. Text
cells do not count: an entry found is brought up to date with them. Only successes are stored, and an entry that cannot
be read is one that is not there.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import importlib.metadata
import json
import os
import platform
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from course.backend import chosen_backend
from course.execution.worker import PACKAGES, digest
from course.files import write_atomically
from course.manifest import Notebook, Profile
from course.notebook import MAGIC_LINE, python_tree, read_notebook, tags
from course.outcome import Result
from course.parameters import notebook_parameters

FORMAT = 2  # counts up when what an entry holds, or what an execution means, changes
KEPT = 3  # entries of a notebook in a profile
TELLING_TAGS = ("parameters", "raises-exception", "skip-execution")  # tags that change what is executed
DATA_FOLDERS = ("COURSE_DATA", "KERAS_HOME")
DRAWING = "utils/plots/"


@dataclass(frozen=True)
class Key:
    """What is known before a run of what its result depends on, in three digests: `data` may change by the run itself,
    which downloads what it needs; `meaning` is that of the content with the code as Python reads it, so that neither
    comments nor line breaks change it.
    """

    content: str
    meaning: str
    data: str

    @property
    def name(self) -> str:
        return _digest(self.content, self.data)[:32]


@dataclass(frozen=True)
class Entry:
    """A stored success: its result, the executed notebook, and when it was run (seconds since 1970)."""

    result: Result
    notebook: bytes
    when: float


class Cache:
    """The results below `<root>/build/cache` for one profile."""

    def __init__(self, root: str | Path, profile: Profile) -> None:
        self.root = Path(root)
        self.profile = profile
        self._digests: dict[tuple[str, int, int] | tuple[str, str], str] = {}

    # ------------------------------------------------------------------------------------------------------- keys

    def key(self, notebook: Notebook, parameters: Mapping[str, Any]) -> Key:
        """CourseError when the notebook cannot be read."""
        document = read_notebook(notebook.path, notebook.relative)
        code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
        content = {
            "format": FORMAT,
            "kernel": document.get("metadata", {}).get("kernelspec", {}).get("name"),
            "code": [[cell["source"], [tag for tag in TELLING_TAGS if tag in tags(cell)]] for cell in code],
            "parameters": dict(parameters),
            "beside": _importable(notebook.path.parent),
            "lock": self.digest(str(self.root / "requirements.lock")),
            "versions": _versions(),
            "threads": self.profile.threads,
        }
        defaults = {name: known.default for name, known in notebook_parameters(code, notebook.relative).items()}
        data = self.data(notebook, {**defaults, **parameters})
        meaning = {
            **content,
            "code": [[part, told] for source, told in content["code"] for part in _statements(source)],
        }
        whole, read = (_digest(json.dumps(each, sort_keys=True, default=repr)) for each in (content, meaning))
        return Key(whole, read, data)

    def data(self, notebook: Notebook, parameters: Mapping[str, Any]) -> str:
        """The data from outside, by names, sizes and times: folders that the environment names or a parameter does."""
        listed = [[name, _listing(Path(), os.environ.get(name, ""))] for name in DATA_FOLDERS]
        for name, value in sorted(parameters.items()):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    listed.append([name, _listing(notebook.path.parent, text)])
        return _digest(json.dumps(["KERAS_BACKEND", os.environ.get("KERAS_BACKEND", ""), listed]))

    def digest(self, path: str) -> str:
        """`course.execution.worker.digest`; a file is read once in the life of this object while its size and time are
        the same.
        """
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return ""
        if stat.S_ISDIR(status.st_mode):
            return digest(path)
        known = (path, status.st_size, status.st_mtime_ns)
        if known not in self._digests:
            self._digests[known] = digest(path)
        return self._digests[known]

    def _meaning(self, path: Path) -> str:
        """A digest of what a Python file does; of the bytes of another file; of the names and sizes in a folder."""
        if path.is_dir():
            files = sorted(
                each for each in path.glob("[!.]*") if each.is_file() and each.suffix not in (".py", ".ipynb")
            )
            return _digest(json.dumps([[each.name, each.stat().st_size] for each in files]))
        known = self.digest(str(path))
        if path.suffix != ".py" or not known:
            return known
        if ("code", known) not in self._digests:
            self._digests["code", known] = _code(path) or known
        return self._digests["code", known]

    # ---------------------------------------------------------------------------------------------------- entries

    def _folder(self, notebook: Notebook) -> Path:
        return self.root / "build" / "cache" / "runs" / self.profile.name / f"{notebook.kind}s" / notebook.stem

    def get(self, notebook: Notebook, key: Key) -> Entry | None:
        """The newest success with this content that read the files as they are today; None when there is none.

        Its text cells are those of today's notebook.
        """
        for path in _newest_first(self._folder(notebook)):
            if path.name.startswith(key.name) and (entry := self._read(path, notebook)) is not None:
                _touch(path)  # the newest are kept: those that were used last
                return entry
        return None

    def _read(self, path: Path, notebook: Notebook) -> Entry | None:
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
            if checksum.decode("ascii") != hashlib.sha256(body).hexdigest():
                return None
            stored = json.loads(body)
            result = Result.from_json(stored["result"])
            if result.status != "passed" or not self.serves(result.files):
                return None
            merged = _merged(json.loads(notebook.path.read_text(encoding="utf-8")), stored["notebook"])
            result.notebook = str(notebook.path)
            return None if merged is None else Entry(result, _written(merged), float(stored["when"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def content(self, key: Key, files: Iterable[str]) -> str:
        """The key's meaning with that of these files below the root, as they are now, as far as recorded values depend
        on it: code without comments and docstrings, no code that draws, no times of files. So it is the same in every
        copy of the repository.
        """
        digests = [[name, self._meaning(self.root / name)] for name in files if not name.startswith(DRAWING)]
        return _digest(key.meaning, json.dumps(digests))[:32]

    def serves(self, files: Mapping[str, str]) -> bool:
        """Whether the files that a run read are what they were."""
        return all(known and self.digest(path) == known for path, known in files.items())

    def put(self, notebook: Notebook, key: Key, result: Result, executed: bytes, when: float) -> None:
        """Store a success; other results are not. CourseError when it cannot be written."""
        if result.status != "passed":
            return
        stored = {"result": asdict(result), "notebook": json.loads(executed), "when": when}
        body = json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        read = _digest(json.dumps(result.files, sort_keys=True))[:16]
        path = self._folder(notebook) / f"{key.name}-{read}.json"
        write_atomically(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body, self.root)
        _touch(path)
        for old in _newest_first(path.parent)[KEPT:]:
            with contextlib.suppress(OSError):
                old.unlink()


def _code(path: Path) -> str:
    """A digest of a Python file without comments and docstrings; "" when it is none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    return _digest(ast.dump(_without_docstrings(tree)))


def _statements(source: str) -> list[str]:
    """The statements of a code cell, without comments and docstrings; its text when it is no Python or has lines of
    IPython's own.
    """
    if MAGIC_LINE.search(source):
        return [source]
    try:
        tree = copy.deepcopy(python_tree(source))
    except SyntaxError:
        return [source]
    return [ast.dump(_without_docstrings(node)) for node in tree.body]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in (node for node in ast.walk(tree) if isinstance(node, kinds)):
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _newest_first(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return []


def _touch(path: Path) -> None:
    """Make this the newest in its folder, whatever the clock says."""
    with contextlib.suppress(OSError):
        others = [other.stat().st_mtime_ns for other in path.parent.glob("*.json") if other != path]
        now = max([time.time_ns(), *(other + 1 for other in others)])
        os.utime(path, ns=(now, now))


def _importable(folder: Path) -> list[str]:
    """The names of modules and packages in a folder: a new one may stand in front of another of its name."""
    with contextlib.suppress(OSError):
        return sorted(
            path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
        )
    return []


def _merged(today: dict[str, Any], executed: dict[str, Any]) -> dict[str, Any] | None:
    """The executed notebook with today's cells around its outputs; None when the code cells are not the same."""
    ran = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    cells: list[dict[str, Any]] = []

    def injected() -> None:
        while ran and "injected-parameters" in tags(ran[0]):
            cells.append(ran.pop(0))

    injected()
    for cell in today["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        if not ran or "".join(ran[0]["source"]) != "".join(cell["source"]):
            return None
        done = ran.pop(0)
        outcome = {"outputs": done["outputs"], "execution_count": done["execution_count"]}
        cells.append({**cell, "metadata": {**done["metadata"], **cell.get("metadata", {})}, **outcome})
        injected()
    return None if ran else {**executed, "cells": cells}


def _written(notebook: dict[str, Any]) -> bytes:
    text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    return text.encode("utf-8", "surrogatepass")


def _listing(base: Path, value: str) -> Any:
    """Name, size and time of every file there, seen from the base; the value itself when nothing is there."""
    return list(_files(base / os.path.expanduser(value))) or value if value else value


def _files(path: Path) -> Iterator[list[Any]]:
    with contextlib.suppress(OSError, ValueError):
        if path.is_file():
            yield [path.name, path.stat().st_size, path.stat().st_mtime_ns]
        for folder, folders, files in os.walk(path):
            folders.sort()
            for name in sorted(files):
                with contextlib.suppress(OSError):
                    status = os.stat(os.path.join(folder, name))
                    where = os.path.relpath(os.path.join(folder, name), path)
                    yield [where, status.st_size, status.st_mtime_ns]


def _versions() -> dict[str, str]:
    """Of Python, NumPy, Keras and its backend, and of TensorFlow, which reads the data under every backend. A further
    backend that is installed computes nothing.
    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    backend, _ = chosen_backend(os.environ)
    names = dict.fromkeys(("keras", "tensorflow", backend))
    for distribution in ("numpy", *(each for name in names for each in PACKAGES.get(name, ()))):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[distribution] = importlib.metadata.version(distribution)
    return found


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
