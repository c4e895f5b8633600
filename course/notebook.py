"""Notebooks as data: JSON read and made sure of, cells with their roles, code cells as Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from course.errors import CourseError

SLIDE = "slide"  # the key that says how a cell of a lecture stands in the slide show
SLIDES = ("slide", "subslide", "fragment", "skip")  # to the right, underneath, on the same by a further key, nowhere
WIDEST = 88  # characters of a line of code that the pages show; they cut what is wider
CHECKED = "nbval-check-output"  # the tag of a cell whose printed output is stored and compared


def read_notebook(path: str | Path, where: str | None = None) -> dict[str, Any]:
    """The notebook as JSON, with every cell's source joined to one string. CourseError when it is none."""
    where = where or str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        notebook = json.loads(text)
    except FileNotFoundError:
        raise CourseError(f"{where}: no such file (`course build` makes the notebooks from their sources)") from None
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{where}: expected a notebook in JSON, got: {error}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
        raise CourseError(f"{where}: expected a notebook (nbformat 4), got JSON without its cells")
    if not isinstance(notebook.setdefault("metadata", {}), dict):
        raise CourseError(f"{where}: expected a notebook (nbformat 4), got one whose metadata is no table")
    for number, cell in enumerate(cells, 1):
        cell.setdefault("metadata", {})
        wrong = _wrong_field(cell)
        if wrong:
            raise CourseError(f"{where}: expected a notebook (nbformat 4), got a cell ({number}) whose {wrong}")
        source = cell.get("source", "")
        cell["source"] = source if isinstance(source, str) else "".join(source)
    if "\\ud" in text.lower():  # half a character, which JSON can write and a file in UTF-8 cannot
        try:
            json.dumps(notebook, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            got = f"got {error.object[error.start]!a}"
            raise CourseError(f"{where}: expected text that UTF-8 can write, {got}") from None
    return notebook


def pictures(cell: Mapping[str, Any]) -> Iterator[str]:
    """The PNG pictures that a cell shows, in base 64."""
    for output in cell.get("outputs", ()):
        encoded = output.get("data", {}).get("image/png")
        if encoded:
            yield (encoded if isinstance(encoded, str) else "".join(encoded)).strip()


def _wrong_field(cell: Mapping[str, Any]) -> str:
    """Which field of a cell is not what nbformat asks for, in words; empty when none is."""
    source, metadata, outputs = cell.get("source", ""), cell["metadata"], cell.get("outputs", [])
    if cell["cell_type"] not in ("code", "markdown", "raw"):
        return "type is neither code nor markdown nor raw"
    if not isinstance(source, str) and not _all(source, str):
        return "source is no text"
    if not isinstance(metadata, dict):
        return "metadata is no table"
    if not _all(metadata.get("tags", []), str):
        return "tags are no list of texts"
    if not isinstance(cell.get("id", ""), str):
        return "id is no text"
    return "" if _all(outputs, dict) else "outputs are no list of tables"


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def tags(cell: Mapping[str, Any]) -> list[str]:
    """The tags of a cell of a notebook that `read_notebook` read."""
    return list(cell.get("metadata", {}).get("tags", []))


def first_words(cell: Mapping[str, Any], length: int = 40) -> str:
    """The first line of a cell that says something, to find it by."""
    line = next((line.strip() for line in str(cell.get("source", "")).split("\n") if line.strip()), "empty")
    return f'"{line}"' if len(line) <= length else f'"{line[: length - 3]}..."'


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook, with what it is for.

    `role`: "parameters" and "setup" by their tags; "gap", "check" and "question" by the key in the metadata, whose
    value is the `name` (a check has the name of the gap that it checks); else "text" for what is no code, and "code".
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
def python_tree(source: str) -> ast.Module:
    """A code cell as Python, the one way in which cells are parsed. The same cell often stands in several notebooks.

    Lines that start with `%`, `!` or `?` are IPython's only where the cell is no Python with them: they may continue a
    long remainder. IPython's own lines become `pass`, but what stands after `%time` and its like is Python.

    Raises:
        SyntaxError: the cell is not Python, or nested too deeply to be parsed.
    """
    try:
        try:
            return ast.parse(source)
        except SyntaxError:
            if not MAGIC_LINE.search(source):
                raise
            return ast.parse(MAGIC_LINE.sub(_without_magic, source))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"cannot be parsed: {error}") from None


@cache
def python_nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of `python_tree`."""
    return tuple(ast.walk(python_tree(source)))


MAGIC_LINE = re.compile(r"^([ \t]*)(?:%(?:time|timeit|prun)[ \t]+(?=\S)|[%!?].*)", re.MULTILINE)


def _without_magic(line: re.Match[str]) -> str:
    return line[1] if not line[0].strip() or re.match(r"\s*%(time|timeit|prun)\s", line[0]) else f"{line[1]}pass"


def names_read(node: ast.AST) -> set[str]:
    """Names that the code takes from its module; parameters and variables of functions and comprehensions are their
    own.
    """
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    read = {name for child in ast.iter_child_nodes(node) for name in names_read(child)}
    if isinstance(node, ast.AugAssign):
        read |= {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        inside = {name for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names}
        own = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        if not isinstance(node, ast.Lambda):
            own |= {name for statement in node.body for name in names_set(statement)}
        before = [*node.args.defaults, *(part for part in node.args.kw_defaults if part is not None)]
        return (read - (own - inside)).union(*(names_read(part) for part in before))
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        own = {name for part in node.generators for name in names_set(part.target)}
        return (read - own) | names_read(node.generators[0].iter)
    return read


def names_set(node: ast.AST) -> set[str]:
    """Names that a statement binds in its own scope: assignments, functions, classes, imports, loops, `with`, `:=`."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.Lambda):
        return set()
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):  # only `:=` leaves them
        return {part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr)}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    found = {name for child in ast.iter_child_nodes(node) for name in names_set(child)}
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        found.add(node.id)
    return found
