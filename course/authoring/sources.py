"""Sources: py:percent files read by jupytext, and every rule of their cells' headers and markers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from course.errors import CourseError, known_names
from course.files import write_atomically
from course.manifest import Notebook
from course.notebook import SLIDE, SLIDES

# The keys a cell header may carry. `[tool.jupytext]` in pyproject.toml lets the same ones through on saving.
KEYS = ("tags", "gap", "stub", "check", "points", "question", SLIDE)
TAGS = (
    "parameters",
    "setup",
    "thumbnail",
    "nbval-check-output",
    "nbval-ignore-output",
    "nbval-raises-exception",
    "nbval-skip",
    "raises-exception",
    "hide-input",
    "hide-output",
    "remove-input",
)
JUPYTEXT_KEYS = ("lines_to_next_cell", "lines_to_end_of_cell_marker")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,47}")
MARKER = re.compile(r"(\s*)###\s*(BEGIN|END) (SOLUTION|HIDDEN TESTS)\s*")
_NEARMARKER = re.compile(r"#.*\b(BEGIN|END)[ _-](SOLUTION|HIDDEN)", re.IGNORECASE)


@dataclass
class Source:
    """A source file read by jupytext, with the line of each cell's header."""

    where: str
    cells: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def error(self, index: int, message: str, offset: int = 0) -> CourseError:
        return CourseError(f"{self.where}:{self.lines[index] + offset}: {message}")


def read_source(path: Path, where: str, cache: Path | None = None) -> Source:
    """Read a py:percent file. CourseError with file and line when it is not laid out in cells.

    jupytext takes a second for thirty sources, so what it read is kept in the file `cache`, which holds for this text
    and this version of jupytext only.
    """
    text = _read_text(path, where)
    lines = text.split("\n")
    headers = [number for number, line in enumerate(lines, 1) if re.match(r"#\s*%%(\s|$)", line)]
    first = next((number for number, line in enumerate(lines, 1) if line.strip()), 0)
    if not headers or first != headers[0]:
        raise CourseError(f"{where}:{max(first, 1)}: expected the header of a cell (`# %%` or `# %% [markdown]`)")
    for number in headers:
        wrong = re.search(r"\btags\s*=\s*(?!\[\s*\")(\S.*|$)", lines[number - 1])
        if wrong:
            raise CourseError(f'{where}:{number}: expected tags=["..."], got tags={wrong[1]}')
    cells = _cells_of(text, where, cache)
    if len(cells) != len(headers):
        raise CourseError(
            f"{where}: expected one cell for each line that starts with `# %%` ({len(headers)}), got {len(cells)}: "
            "is there such a line within a text?"
        )
    return Source(where, cells, headers)


def _kept(notebook: Notebook, path: Path) -> Path:
    return notebook.root / "build" / "cache" / "sources" / f"{path.parent.name}-{path.stem}.json"


_READ: dict[str, list[dict[str, Any]]] = {}


def _cells_of(text: str, where: str, cache: Path | None) -> list[dict[str, Any]]:
    """What jupytext makes of a text, from this process or from the cache if they have it."""
    key = hashlib.sha256(f"{version('jupytext')}\n{text}".encode()).hexdigest()
    if key in _READ:
        return _READ[key]
    if cache is not None:
        try:
            kept = json.loads(cache.read_text(encoding="utf-8"))
            if kept["key"] == key:
                _READ[key] = kept["cells"]
                return _READ[key]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or not ours: it is written anew
    from jupytext import reads

    try:
        read = reads(text, fmt="py:percent").cells
    except Exception as error:  # of jupytext, nbformat or their parsers
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise CourseError(f"{where}: jupytext cannot read it: {said}") from None
    cells = [{"cell_type": cell.cell_type, "metadata": dict(cell.metadata), "source": cell.source} for cell in read]
    _READ[key] = cells
    if cache is not None:
        with contextlib.suppress(CourseError):  # a course that cannot be written to can be looked at
            write_atomically(cache, json.dumps({"key": key, "cells": cells}))
    return cells


def read_course_source(notebook: Notebook) -> Source:
    """The source of a notebook, with every gap, check and question held against the others."""
    source = read_source(notebook.source, notebook.relative_source, _kept(notebook, notebook.source))
    gaps: dict[str, int] = {}
    used: dict[str, int] = {}

    def claim(name: str, index: int) -> None:
        if name in used:
            raise source.error(index, f"expected a name of its own, got {name!r} as in line {source.lines[used[name]]}")
        used[name] = index

    for index, cell in enumerate(source.cells):
        _check_header(source, index)
        metadata = cell["metadata"]
        roles = [key for key in ("gap", "check", "question") if key in metadata]
        if SLIDE in metadata and notebook.kind != "lecture":
            raise source.error(index, f"{SLIDE} is for lectures: a {notebook.kind} has no slides")
        if len(roles) > 1:
            raise source.error(index, f"expected one of gap, check and question, got {' and '.join(roles)}")
        if not roles:
            for key in ("stub", "points"):
                if key in metadata:
                    raise source.error(index, f"{key} goes with {'gap' if key == 'stub' else 'check or question'}")
        elif notebook.kind == "lecture":
            raise source.error(index, f"a lecture has no {roles[0]}: gaps, checks and questions stand in solutions")
        if "gap" in metadata:
            claim(metadata["gap"], index)
            gaps[metadata["gap"]] = 0
            _check_gap(source, index)
        if "check" in metadata:
            name = metadata["check"]
            if name not in gaps:
                raise source.error(index, f"no gap {name!r} above this check ({known_names(name, gaps)})")
            gaps[name] += 1
            claim(check_id(name, gaps[name]), index)
            _check_points(source, index)
            if cell["cell_type"] != "code":
                raise source.error(index, "a check is a code cell: expected `# %% check=...` without [markdown]")
        if "question" in metadata:
            claim(metadata["question"], index)
            _check_points(source, index)
            if cell["cell_type"] != "markdown":
                raise source.error(index, "a question is a markdown cell: expected `# %% [markdown] question=...`")
        _check_markers(source, index)
    return source


def _check_header(source: Source, index: int) -> None:
    cell = source.cells[index]
    if cell["cell_type"] not in ("code", "markdown"):
        raise source.error(index, f"expected a code or [markdown] cell, got [{cell['cell_type']}]")
    for key, value in cell["metadata"].items():
        if key in JUPYTEXT_KEYS:
            continue
        if key not in KEYS:
            got = f"{key}={json.dumps(value)}" if value is not None else key
            raise source.error(index, f"unknown key in the header: {got} ({known_names(key, KEYS)})")
        if key == "tags":
            if not isinstance(value, list) or not value or not all(isinstance(tag, str) for tag in value):
                raise source.error(index, f'expected tags=["..."], got tags={json.dumps(value)}')
        elif key == SLIDE and value not in SLIDES:
            got = f"{SLIDE}={json.dumps(value)}"
            raise source.error(index, f'expected {SLIDE}="..." with one of {", ".join(SLIDES)}, got {got}')
        elif key in ("gap", "check", "question") and not (isinstance(value, str) and _NAME.fullmatch(value)):
            expected = f'{key}="a-name" of at most 48 small letters, digits and hyphens'
            raise source.error(index, f"expected {expected}, got {key}={json.dumps(value)}")


def _check_gap(source: Source, index: int) -> None:
    cell = source.cells[index]
    stub = cell["metadata"].get("stub")
    if cell["cell_type"] != "code":
        raise source.error(index, "a gap is a code cell: expected `# %% gap=...` without [markdown]")
    if not isinstance(stub, str) or not stub.strip() or "\n" in stub:
        name = cell["metadata"]["gap"]
        raise source.error(index, f'gap {name!r}: expected stub="what to write", which the lab shows in its place')


def _check_points(source: Source, index: int) -> None:
    points = source.cells[index]["metadata"].get("points")
    if isinstance(points, bool) or not isinstance(points, (int, float)) or not 0 < points < 1000:
        got = "none" if points is None else json.dumps(points)
        raise source.error(index, f"expected points=NUMBER above 0, got {got}")


def _check_markers(source: Source, index: int) -> None:
    cell = source.cells[index]
    metadata = cell["metadata"]
    open_: tuple[str, int] | None = None
    seen: list[str] = []
    for offset, line in enumerate(cell["source"].split("\n"), 1):
        marker = MARKER.fullmatch(line)
        if not marker:
            if _NEARMARKER.search(line):
                raise source.error(
                    index, f"expected `### BEGIN SOLUTION` or its like alone, got `{line.strip()}`", offset
                )
            continue
        side, what = marker[2], marker[3]
        allowed = ("gap", "question") if what == "SOLUTION" else ("check",)
        if not any(key in metadata for key in allowed):
            message = f"{side} {what} in a cell without {' or '.join(f'{key}=...' for key in allowed)} in its header"
            raise source.error(index, message, offset)
        if side == "BEGIN":
            if open_:
                message = f"BEGIN {what} within another: expected END {open_[0]} of line {open_[1]} first"
                raise source.error(index, message, offset)
            open_ = (what, source.lines[index] + offset)
            seen.append(what)
        elif not open_ or open_[0] != what:
            raise source.error(index, f"END {what} without its BEGIN {what}", offset)
        else:
            open_ = None
    if open_:
        raise CourseError(f"{source.where}:{open_[1]}: BEGIN {open_[0]}: expected END {open_[0]} before the cell ends")
    if ("gap" in metadata or "question" in metadata) and "SOLUTION" not in seen:
        key = "gap" if "gap" in metadata else "question"
        message = f"{key} {metadata[key]!r}: expected its answer between ### BEGIN SOLUTION and ### END SOLUTION"
        raise source.error(index, message)


def _read_text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CourseError(f"{where}: no such file, but course.toml names it") from None
    except UnicodeDecodeError as error:
        raise CourseError(f"{where}: expected UTF-8 text, got byte {error.start} that is none") from None
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None


@dataclass(frozen=True)
class WrongAnswer:
    """A plausible wrong answer to a gap: the whole cell, and why somebody would write it."""

    gap: str
    why: str
    source: str
    line: int


def read_wrong(notebook: Notebook) -> list[WrongAnswer]:
    """The wrong answers of a topic, in the order of their file; none without the file."""
    where = f"sources/wrong/{notebook.stem}.py"
    if not notebook.wrong.exists():
        return []
    source = read_source(notebook.wrong, where, _kept(notebook, notebook.wrong))
    answers = []
    for index, cell in enumerate(source.cells):
        metadata = {key: value for key, value in cell["metadata"].items() if key not in JUPYTEXT_KEYS}
        if cell["cell_type"] == "markdown" and not metadata:
            continue
        gap, why = metadata.get("gap"), metadata.get("why")
        if set(metadata) != {"gap", "why"} or not isinstance(gap, str) or not isinstance(why, str) or not why.strip():
            raise source.error(index, 'expected `# %% gap="..." why="..."` and nothing else in the header')
        answers.append(WrongAnswer(gap, why, cell["source"], source.lines[index]))
    return answers


def check_id(gap: str, number: int) -> str:
    return f"{gap}-check" if number == 1 else f"{gap}-check-{number}"
