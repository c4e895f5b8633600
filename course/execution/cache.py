"""Results of earlier runs, found by content: what has run before with the same content is not run again.

Standard library only, and no notebook library: a warm run of the whole course answers within seconds. The content of a
notebook is its code cells, its parameters, the files of the course that it imports, directly or through others, the
lock, Python, the threads of its kernel, and the data it is given from outside. Text cells are not: an entry found is
brought up to date with them. Only successes are stored, and an entry that cannot be read is one that is not there."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.execution.worker import PACKAGES
from course.files import write_atomically
from course.manifest import Notebook, Profile
from course.notebook import read_notebook, tags
from course.outcome import Result

FORMAT = 2  # counts up when what an entry holds, or what an execution means, changes
KEPT = 3  # entries of a notebook in a profile
TELLING_TAGS = ("parameters", "raises-exception", "skip-execution")  # tags that change what is executed
DATA_FOLDERS = ("COURSE_DATA", "KERAS_HOME")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Key:
    """What a result depends on, in two hashes: `data` may change by the run itself, which downloads what it needs."""

    content: str
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
        self._files: dict[tuple[str, int, int], str] = {}
        self._imports = _Imports(self.root / "build" / "cache" / "imports.json")

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
            "files": {
                os.path.relpath(path, self.root): self._hash(path)
                for path in self.dependencies(notebook.path.parent, [cell["source"] for cell in code])
            },
            "lock": self._hash(self.root / "requirements.lock"),
            "versions": _versions(),
            "threads": self.profile.threads,
        }
        return Key(_digest(json.dumps(content, sort_keys=True, default=repr)), self.data(notebook, parameters))

    def data(self, notebook: Notebook, parameters: Mapping[str, Any]) -> str:
        """The data from outside, by names, sizes and times: folders that the environment names or a parameter does."""
        listed = [[name, _listing(Path.cwd(), os.environ.get(name, ""))] for name in DATA_FOLDERS]
        texts = [(name, value) for name, value in sorted(parameters.items()) if isinstance(value, str)]
        listed += [[name, _listing(notebook.path.parent, value)] for name, value in texts]
        return _digest(json.dumps(["KERAS_BACKEND", os.environ.get("KERAS_BACKEND", ""), listed]))

    def _hash(self, path: Path) -> str:
        try:
            status = path.stat()
            known = (str(path), status.st_size, status.st_mtime_ns)
            if known not in self._files:
                self._files[known] = hashlib.sha256(path.read_bytes()).hexdigest()
            return self._files[known]
        except OSError:
            return ""

    # ----------------------------------------------------------------------------------------------- dependencies

    def dependencies(self, folder: Path, cells: Iterable[str]) -> list[Path]:
        """The files that these cells, run in that folder, import from it or from the course, and those that these
        import.

        A package brings its `__init__` and the files beside it that are no code, such as weights.
        """
        found: dict[Path, None] = {}
        left: list[Path] = []

        def add(names: Iterable[str]) -> None:
            for name in names:
                for path in self._resolve(folder, name):
                    if path not in found:
                        found[path] = None
                        left.append(path)

        for source in cells:
            add(self._imports.of(source, ""))
        while left:
            path = left.pop()
            if path.suffix == ".py":
                add(self._imports_of(folder, path))
                if path.name == "__init__.py":
                    found.update(dict.fromkeys(_beside(path.parent)))
        self._imports.keep()
        return sorted(found)

    def _imports_of(self, folder: Path, path: Path) -> list[str]:
        base = folder if path.is_relative_to(folder) else self.root
        parts = path.relative_to(base).with_suffix("").parts
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            source = ""
        return self._imports.of(source, ".".join(parts[:-1]))

    def _resolve(self, folder: Path, name: str) -> list[Path]:
        """The files that importing `name` runs, as far as they lie in the folder or in the course; `a.*` is all of
        `a`."""
        parts = name.split(".")
        for base in (folder, self.root):
            found: list[Path] = []
            here = base
            for part in parts:
                if part == "*":
                    return [*found, *sorted(path for path in here.rglob("*.py") if "__pycache__" not in path.parts)]
                here = here / part
                if (here / "__init__.py").is_file():
                    found.append(here / "__init__.py")
                elif here.with_suffix(".py").is_file():
                    found.append(here.with_suffix(".py"))
                    break
                elif not here.is_dir():
                    break
            if found:
                return found
        return []

    # ---------------------------------------------------------------------------------------------------- entries

    def _folder(self, notebook: Notebook) -> Path:
        return self.root / "build" / "cache" / "runs" / self.profile.name / f"{notebook.kind}s" / notebook.stem

    def get(self, notebook: Notebook, key: Key) -> Entry | None:
        """The stored success with this content, its text cells those of today's notebook; None when there is none."""
        path = self._folder(notebook) / f"{key.name}.json"
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
            if digest.decode("ascii") != hashlib.sha256(body).hexdigest():
                return None
            stored = json.loads(body)
            result = Result.from_json(stored["result"])
            merged = _merged(json.loads(notebook.path.read_text(encoding="utf-8")), stored["notebook"])
            when = float(stored["when"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        if merged is None or result.status != "passed":
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the newest are kept: those that were used last
        result.notebook = str(notebook.path)
        return Entry(result, _written(merged), when)

    def put(self, notebook: Notebook, key: Key, result: Result, executed: bytes, when: float) -> None:
        """Store a success; other results are not. CourseError when it cannot be written."""
        if result.status != "passed":
            return
        stored = {"result": asdict(result), "notebook": json.loads(executed), "when": when}
        body = json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode()
        folder = self._folder(notebook)
        write_atomically(folder / f"{key.name}.json", hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        _prune(folder)


class _Imports:
    """What pieces of code import, by their content: parsing all of them anew takes most of the time of a warm run.

    The file is an aid: one that is damaged, or cannot be written, costs time and nothing else.
    """

    MOST = 20_000  # pieces of code; beyond, those that were not asked for go

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rules = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self._known = self._read()
        self._used: dict[str, list[str]] = {}
        self._new = False

    def _read(self) -> dict[str, list[str]]:
        try:
            stored = json.loads(self._path.read_bytes())
            known = stored["known"] if stored["rules"] == self._rules else {}
            right = all(
                isinstance(names, list) and all(isinstance(name, str) for name in names) for names in known.values()
            )
            return known if right else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def of(self, source: str, package: str) -> list[str]:
        """The names that `_imported` finds."""
        digest = _digest(package, source)[:32]
        if digest not in self._known:
            self._known[digest] = list(dict.fromkeys(_imported(source, package)))
            self._new = True
        self._used[digest] = self._known[digest]
        return self._used[digest]

    def keep(self) -> None:
        """Write what is new for the next time."""
        if not self._new:
            return
        self._new = False
        known = dict(self._known if len(self._known) <= self.MOST else self._used)
        with contextlib.suppress(CourseError):
            write_atomically(self._path, json.dumps({"rules": self._rules, "known": known}).encode())


def _prune(folder: Path) -> None:
    with contextlib.suppress(OSError):
        files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in files[KEPT:]:
            path.unlink(missing_ok=True)


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
    return (json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def _imported(source: str, package: str) -> Iterator[str]:
    """Dotted names that this code may import, in functions too; `package` is the one that relative imports start
    from."""
    try:
        tree = ast.parse("\n".join(_python(source)))
    except (SyntaxError, ValueError, RecursionError):
        yield f"{package or 'utils'}.*"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _imports_by_name(node):
            yield f"{package or 'utils'}.*"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            yield node.value  # importlib.import_module("utils.plots"), a table of modules to import later


def _imports_by_name(call: ast.Call) -> bool:
    """Whether this imports a module whose name is made when the program runs."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    made = not call.args or not isinstance(call.args[0], ast.Constant)
    return name in ("iter_modules", "walk_packages") or (name in ("import_module", "__import__") and made)


def _python(source: str) -> Iterator[str]:
    """The lines without those for IPython, `%time` and `!ls`; what stands after `%time` may import as well."""
    for line in source.split("\n"):
        bare = line.lstrip()
        indent = line[: len(line) - len(bare)]
        if bare.startswith(("%%", "!", "?")):
            yield f"{indent}pass"
        elif bare.startswith("%"):
            words = bare.split(None, 1)
            rest = words[1] if words[0] in ("%time", "%timeit", "%prun") and len(words) > 1 else "pass"
            yield indent + rest
        else:
            yield line


def _beside(folder: Path) -> Iterator[Path]:
    """The files of a package that are no code, its folders that are no packages included."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            if not (path / "__init__.py").is_file():
                yield from _beside(path)
        elif path.suffix not in (".py", ".pyc"):
            yield path


def _listing(base: Path, value: str) -> Any:
    """Name, size and time of every file there, seen from the base; the value itself when nothing is there."""
    listed: list[list[Any]] = []
    with contextlib.suppress(OSError, ValueError):
        path = base / os.path.expanduser(value) if value else None
        if path is not None and path.is_file():
            return [path.name, path.stat().st_size, path.stat().st_mtime_ns]
        if path is not None and path.is_dir():
            for folder, folders, files in os.walk(path):
                folders.sort()
                for name in sorted(files):
                    with contextlib.suppress(OSError):
                        status = os.stat(os.path.join(folder, name))
                        where = os.path.relpath(os.path.join(folder, name), path)
                        listed.append([where, status.st_size, status.st_mtime_ns])
            return listed
    return value


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for distribution in ("numpy", *(name for names in PACKAGES.values() for name in names)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[distribution] = importlib.metadata.version(distribution)
    return found


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
