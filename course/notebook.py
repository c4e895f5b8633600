"""Notebooks as data: JSON read and made sure of, cells with their roles, code cells as Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from course.errors import CourseError

CHECKED = "nbval-check-output"  # the tag of a cell whose printed output is stored and compared


def read_notebook(path: str | Path, where: str | None = None) -> dict[str, Any]:
    """The notebook as JSON, with every cell's source joined to one string. CourseError when it is none."""
    where = where or str(path)
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"{where}: no such file (`course build` makes the notebooks from their sources)") from None
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{where}: expected a notebook in JSON, got: {error}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
        raise CourseError(f"{where}: expected a notebook (nbformat 4), got JSON without its cells")
    for cell in cells:
        source = cell.get("source", "")
        cell["source"] = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if not isinstance(cell.get("metadata", {}), dict):
            raise CourseError(f"{where}: expected a notebook (nbformat 4), got a cell whose metadata is no table")
        cell.setdefault("metadata", {})
    return notebook


def tags(cell: Mapping[str, Any]) -> list[str]:
    found = cell.get("metadata", {}).get("tags", [])
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def first_words(cell: Mapping[str, Any], length: int = 40) -> str:
    """The first line of a cell that says something, to find it by."""
    line = next((line.strip() for line in str(cell.get("source", "")).split("\n") if line.strip()), "empty")
    return f'"{line}"' if len(line) <= length else f'"{line[: length - 3]}..."'


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook, with what it is for.

    `role`: "parameters" and "setup" by their tags; "gap", "check" and "question" by the key in the metadata, whose value is
    the `name` (a check has the name of the gap that it checks); else "text" for what is no code, and "code".
    """

    index: int
    id: str
    type: str  # "code", "markdown" or "raw"
    source: str
    role: str
    name: str
    points: Fraction | int
    tags: tuple[str, ...]


def typed_cells(notebook: Mapping[str, Any]) -> list[Cell]:
    """The cells of a notebook that `read_notebook` read."""
    return [_typed(index, cell) for index, cell in enumerate(notebook["cells"])]


def _typed(index: int, cell: Mapping[str, Any]) -> Cell:
    metadata, tagged = cell["metadata"], tags(cell)
    role = next((tag for tag in ("parameters", "setup") if tag in tagged), "")
    name = ""
    for key in ("gap", "check", "question"):
        if not role and isinstance(metadata.get(key), str):
            role, name = key, metadata[key]
    points = metadata.get("points")
    worth = Fraction(str(points)) if isinstance(points, (int, float)) and not isinstance(points, bool) else Fraction(0)
    return Cell(
        index=index,
        id=str(cell.get("id", "")),
        type=cell["cell_type"],
        source=cell["source"],
        role=role or ("code" if cell["cell_type"] == "code" else "text"),
        name=name,
        points=int(worth) if worth.denominator == 1 else worth,
        tags=tuple(tagged),
    )


@cache
def names_read(source: str) -> frozenset[str]:
    """Names that a code cell reads; lines for IPython (`%time`, `!ls`) are looked at as words."""
    try:
        nodes = python_nodes(source)
    except SyntaxError:
        return frozenset(re.findall(r"\w+", source))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {node.target.id for node in nodes if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)}
    magic = [line for line in source.split("\n") if _MAGIC_LINE.match(line)]
    return frozenset(read).union(re.findall(r"\w+", "\n".join(magic)))


@cache
def python_nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a code cell. The same cell often stands in several notebooks.

    Lines that start with `%` are IPython's only where the cell is no Python with them: they may continue a long remainder.

    Raises:
        SyntaxError: the cell is not Python.
    """
    try:
        return tuple(ast.walk(ast.parse(source)))
    except SyntaxError:
        if not any(_MAGIC_LINE.match(line) for line in source.split("\n")):
            raise
    return tuple(ast.walk(ast.parse(without_magics(source))))


def without_magics(source: str) -> str:
    """The cell with IPython's own lines blanked; a cell magic (`%%time`) blanks its line only."""
    return "\n".join("" if _MAGIC_LINE.match(line) else line for line in source.split("\n"))


_MAGIC_LINE = re.compile(r"\s*[%!?]")
