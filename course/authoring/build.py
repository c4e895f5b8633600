"""From sources to notebooks: lectures, solutions, and labs with their answers taken out.

Nothing is executed, and the same sources give the same bytes everywhere. A lecture or solution is what jupytext makes
of its source, plus cell ids, nbgrader metadata and checked outputs, so that JupyterLab can write its edits back to the
source. Only labs are transformed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from course.errors import CourseError, nearest
from course.files import write_atomically
from course.manifest import Manifest, Notebook
from course.notebook import read_notebook, tags

Cell = dict[str, Any]

# The keys a cell header may carry. `[tool.jupytext]` in pyproject.toml lets the same ones through on saving.
KEYS = ("tags", "gap", "stub", "check", "points", "question")
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
CHECKED = "nbval-check-output"
ANSWER = "*Your answer here.*"
_JUPYTEXT_KEYS = ("lines_to_next_cell", "lines_to_end_of_cell_marker")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,47}")
_MARKER = re.compile(r"(\s*)###\s*(BEGIN|END) (SOLUTION|HIDDEN TESTS)\s*")
_NEAR_MARKER = re.compile(r"#.*\b(BEGIN|END)[ _-](SOLUTION|HIDDEN)", re.IGNORECASE)
_NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


# ---------------------------------------------------------------------------------------- what stands in every notebook


def badge(manifest: Manifest, notebook: Notebook) -> str:
    """The line under the title that opens the notebook in Colab."""
    repository = manifest.repository.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{repository}/blob/{manifest.tag}/{notebook.relative}"
    return f"[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"


def title(notebook: Notebook) -> str:
    """The first line of the notebook."""
    kind = "" if notebook.kind == "lecture" else f": {notebook.kind}"
    return f"# {notebook.topic.number:02d} {notebook.topic.title}{kind}"


def setup_cell(manifest: Manifest) -> str:
    """The set-up cell, the same in every notebook."""
    return f"""\
# On Colab this installs the course; anywhere else it only looks whether the course is there.
import importlib.util
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("utils") is None:
    address = "git+{manifest.repository}@{manifest.tag}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", address], check=True)
    importlib.invalidate_caches()
found = importlib.util.find_spec("utils")
if found is None:
    raise ImportError("the course is not installed here: see 'Two commands' in its README")
folders = list(found.submodule_search_locations or [])
if not any(pathlib.Path(folder, "session.py").is_file() for folder in folders):
    hiding = found.origin or folders[0]
    raise ImportError(f"{{hiding}} hides the course's own utils: rename it and restart the kernel")
_ = importlib.import_module("utils")"""


# ----------------------------------------------------------------------------------------------------- reading a source


@dataclass
class Source:
    """A source file read by jupytext, with the line of each cell's header."""

    where: str
    cells: list[Cell] = field(default_factory=list)
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


_READ: dict[str, list[Cell]] = {}


def _cells_of(text: str, where: str, cache: Path | None) -> list[Cell]:
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
                close = nearest(name, gaps)
                hint = f"; did you mean {close}?" if close else ""
                known = ", ".join(gaps) or "none"
                raise source.error(index, f"check names an unknown gap {name!r} (gaps above it: {known}{hint})")
            gaps[name] += 1
            claim(_check_id(name, gaps[name]), index)
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
        if key in _JUPYTEXT_KEYS:
            continue
        if key not in KEYS:
            close = nearest(key, KEYS)
            got = f"{key}={json.dumps(value)}" if value is not None else key
            hint = f"; did you mean {close}?" if close else ""
            raise source.error(index, f"unknown key in the header: {got} (known: {', '.join(KEYS)}{hint})")
        if key == "tags":
            if not isinstance(value, list) or not value or not all(isinstance(tag, str) for tag in value):
                raise source.error(index, f'expected tags=["..."], got tags={json.dumps(value)}')
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
        marker = _MARKER.fullmatch(line)
        if not marker:
            if _NEAR_MARKER.search(line):
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
        return path.read_text(encoding="utf-8")
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
        metadata = {key: value for key, value in cell["metadata"].items() if key not in _JUPYTEXT_KEYS}
        if cell["cell_type"] == "markdown" and not metadata:
            continue
        gap, why = metadata.get("gap"), metadata.get("why")
        if set(metadata) != {"gap", "why"} or not isinstance(gap, str) or not isinstance(why, str) or not why.strip():
            raise source.error(index, 'expected `# %% gap="..." why="..."` and nothing else in the header')
        answers.append(WrongAnswer(gap, why, cell["source"], source.lines[index]))
    return answers


# ----------------------------------------------------------------------------------------------------- making notebooks


def _check_id(gap: str, number: int) -> str:
    return f"{gap}-check" if number == 1 else f"{gap}-check-{number}"


def make_notebook(notebook: Notebook, built: dict[str, Any] | None = None) -> dict[str, Any]:
    """The notebook that the source gives. Checked outputs are taken from `built`, where the cell is unchanged."""
    return _assemble(notebook, read_course_source(notebook), built)


def _assemble(notebook: Notebook, source: Source, built: dict[str, Any] | None) -> dict[str, Any]:
    lab = notebook.kind == "lab"
    checks: dict[str, int] = {}
    cells = []
    for index, read in enumerate(source.cells):
        metadata, text = dict(read["metadata"]), read["source"]
        if lab:
            metadata = {key: value for key, value in metadata.items() if key not in _JUPYTEXT_KEYS}
            text = _as_handed_out(text, read["metadata"], first=index == 0)
        grading = _nbgrader(read, checks)
        if grading:
            metadata["nbgrader"] = grading
            if lab:
                grading["checksum"] = checksum(read["cell_type"], text, grading)
                metadata["nbgrader"] = dict(sorted(grading.items()))
        cells.append({"cell_type": read["cell_type"], "metadata": metadata, "source": text})
    _give_ids(cells)
    stored = {} if lab or not built else {cell.get("id"): cell for cell in built["cells"]}
    return {
        "cells": [_in_file_order(cell, stored.get(cell["id"])) for cell in cells],
        "metadata": _NOTEBOOK_METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _as_handed_out(text: str, metadata: dict[str, Any], first: bool) -> str:
    """The text of a solution's cell in the lab: stubs for answers, no hidden tests, the lab's own title and badge."""
    if first:
        head, *rest = text.split("\n")
        head = re.sub(r": solution\s*$", ": lab", head)
        rest = [line.replace("/solutions/", "/labs/") if "colab-badge.svg" in line else line for line in rest]
        return "\n".join([head, *rest])
    kept: list[str] = []
    inside = False
    for line in text.split("\n"):
        marker = _MARKER.fullmatch(line)
        if not marker:
            if not inside:
                kept.append(line)
            continue
        inside = marker[2] == "BEGIN"
        if inside and "gap" in metadata:
            kept.append(f"{marker[1]}raise NotImplementedError({json.dumps(metadata['stub'], ensure_ascii=False)})")
        elif inside and "question" in metadata:
            kept.append(ANSWER)
    return "\n".join(kept).rstrip("\n") if len(kept) < len(text.split("\n")) else text


def _nbgrader(cell: Cell, checks: dict[str, int]) -> dict[str, Any] | None:
    """nbgrader's own metadata (schema 3), from the keys of the source."""
    metadata = cell["metadata"]
    if "gap" in metadata:
        grade_id, grade, solution, locked = metadata["gap"], False, True, False
    elif "check" in metadata:
        checks[metadata["check"]] = number = checks.get(metadata["check"], 0) + 1
        grade_id, grade, solution, locked = _check_id(metadata["check"], number), True, False, True
    elif "question" in metadata:
        grade_id, grade, solution, locked = metadata["question"], True, True, False
    else:
        return None
    grading = {
        "cell_type": cell["cell_type"],
        "grade": grade,
        "grade_id": grade_id,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if grade:
        grading["points"] = metadata["points"]
    return dict(sorted(grading.items()))


def checksum(cell_type: str, text: str, grading: dict[str, Any]) -> str:
    """nbgrader's checksum of a cell: it tells an instructor whether a locked cell was edited."""
    parts = [text, cell_type, str(grading["grade"]), str(grading["solution"])]
    parts += [str(bool(grading["locked"] and not grading["solution"])), grading["grade_id"]]
    if grading["grade"]:
        parts.append(str(float(grading["points"])))
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def cell_id(cell_type: str, text: str) -> str:
    """The id of a cell without a grade_id: 12 hex digits of its type and text."""
    return hashlib.sha256(f"{cell_type}{text}".encode()).hexdigest()[:12]


def _give_ids(cells: list[Cell]) -> None:
    seen: dict[str, int] = {}
    for cell in cells:
        grading = cell["metadata"].get("nbgrader")
        name = grading["grade_id"] if grading else cell_id(cell["cell_type"], cell["source"])
        seen[name] = seen.get(name, 0) + 1
        cell["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"


def _in_file_order(cell: Cell, stored: Cell | None) -> Cell:
    """The cell with its keys in nbformat's order; those of its metadata stay in the order of the source's header."""
    done: Cell = {"cell_type": cell["cell_type"]}
    if cell["cell_type"] == "code":
        outputs = checked_outputs(stored) if stored and stored.get("source") == cell["source"] else []
        outputs = outputs if CHECKED in tags(cell) else []
        done["execution_count"] = 1 if outputs else None
    done["id"] = cell["id"]
    done["metadata"] = cell["metadata"]
    if cell["cell_type"] == "code":
        done["outputs"] = outputs
    done["source"] = cell["source"]
    return done


def checked_outputs(cell: Cell) -> list[dict[str, Any]]:
    """The output of a cell as it is stored when it is a checked one: one stream of text, or nothing."""
    text = ""
    for output in cell.get("outputs") or []:
        if isinstance(output, dict) and output.get("output_type") == "stream" and output.get("name") == "stdout":
            said = output.get("text", "")
            text += "".join(map(str, said)) if isinstance(said, list) else str(said)
    return [{"name": "stdout", "output_type": "stream", "text": text}] if text else []


def store_outputs(notebook: Notebook, texts: Mapping[str, str]) -> bool:
    """Store what the checked cells printed (by cell id) in the built notebook. Whether that changed the file."""
    content = read_notebook(notebook.path, notebook.relative)
    for cell in content["cells"]:
        if cell.get("id") in texts and CHECKED in tags(cell):
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": texts[cell["id"]]}]
    text = notebook_text(make_notebook(notebook, content))
    if text == notebook.path.read_text(encoding="utf-8"):
        return False
    write_atomically(notebook.path, text, notebook.root)
    return True


def notebook_text(notebook: dict[str, Any]) -> str:
    """The notebook as it stands in its file: nbformat's own layout, texts split into lines."""
    cells = []
    for cell in notebook["cells"]:
        cell = {**cell, "source": str(cell["source"]).splitlines(True)}
        if "outputs" in cell:
            cell["outputs"] = [
                {**output, "text": output["text"].splitlines(True)} if isinstance(output.get("text"), str) else output
                for output in cell["outputs"]
            ]
        cells.append(cell)
    return json.dumps({**notebook, "cells": cells}, ensure_ascii=False, indent=1, separators=(",", ": ")) + "\n"


# ----------------------------------------------------------------------------------------------------- the whole course


@dataclass(frozen=True)
class Built:
    """What `build` found for one notebook. `state`: "written", "unchanged", "stale" (not written) or "broken"."""

    relative: str
    state: str
    message: str = ""


def build(manifest: Manifest, notebooks: Sequence[Notebook] | None = None, check: bool = False) -> list[Built]:
    """Build these notebooks (without any: all, and look for files that nothing builds). With `check` write nothing.

    A broken source breaks its own notebooks only; the others are built.
    """
    chosen = list(notebooks) if notebooks is not None else manifest.notebooks(("lecture", "solution", "lab"))
    results = []
    sources: dict[str, Source | CourseError] = {}
    for notebook in chosen:
        results.append(_build_one(manifest, notebook, sources, check))
    if notebooks is None:
        results += [Built(name, "stale", message) for name, message in orphans(manifest)]
    return results


def _build_one(manifest: Manifest, notebook: Notebook, sources: dict[str, Source | CourseError], check: bool) -> Built:
    key = f"{notebook.relative_source} {notebook.kind == 'lecture'}"
    if key not in sources:
        try:
            sources[key] = read_course_source(notebook)
        except CourseError as error:
            sources[key] = error
    source = sources[key]
    if isinstance(source, CourseError):
        if notebook.path.exists() and not notebook.source.exists():
            remedy = "bring it back, or take the topic out of course.toml and delete the notebook"
            return Built(
                notebook.relative,
                "stale",
                f"{notebook.relative}: its source {notebook.relative_source} is gone: {remedy}",
            )
        return Built(notebook.relative, "broken", str(source))
    before: bytes | None = None
    built: dict[str, Any] | None = None
    try:
        before = notebook.path.read_bytes()
        built = read_notebook(notebook.path, notebook.relative)
    except (FileNotFoundError, CourseError):
        pass  # missing, or no notebook: it is made anew
    except OSError as error:
        return Built(notebook.relative, "broken", f"{notebook.relative}: {error.strerror or error}")
    made = _assemble(notebook, source, built)
    after = notebook_text(made)
    if after.encode() == before:
        return Built(notebook.relative, "unchanged")
    message = _difference(notebook, before, built, made)
    if check:
        return Built(notebook.relative, "stale", message)
    write_atomically(notebook.path, after, manifest.root)
    return Built(notebook.relative, "written", message)


def _difference(notebook: Notebook, before: bytes | None, built: dict[str, Any] | None, made: dict[str, Any]) -> str:
    """In one line: how the file differs from what its source gives, and what to do."""
    remedy = f"`course build` makes it anew from {notebook.relative_source}"
    if before is None:
        return f"{notebook.relative}: missing: {remedy}"
    if built is None:
        return f"{notebook.relative}: not a notebook: {remedy}"
    old, new = built["cells"], made["cells"]
    for index, (one, other) in enumerate(zip(old, new, strict=False), 1):
        where = f"{notebook.relative}: cell {index} ({first_words(other)})"
        if (one["cell_type"], one["source"]) != (other["cell_type"], other["source"]):
            source = notebook.relative_source
            return f"{where} differs from its source: put what is to stay into {source}, then `course build`"
        if one.get("outputs", []) != _split(other).get("outputs", []) and one.get("outputs") != other.get("outputs"):
            return f"{where} holds outputs: `course build` removes them"
        if (one.get("id"), one["metadata"]) != (other["id"], other["metadata"]):
            return f"{where} has another id or metadata than its source gives: {remedy}"
    if len(old) != len(new):
        return f"{notebook.relative}: {len(old)} cells where its source has {len(new)}: {remedy}"
    return f"{notebook.relative}: written by another program (layout or notebook metadata): {remedy}"


def _split(cell: Cell) -> Cell:
    outputs = [{**output, "text": output["text"].splitlines(True)} for output in cell.get("outputs", [])]
    return {**cell, "outputs": outputs}


def first_words(cell: Cell, length: int = 40) -> str:
    """The first line of a cell that says something, to find it by."""
    line = next((line.strip() for line in str(cell.get("source", "")).split("\n") if line.strip()), "empty")
    return f'"{line}"' if len(line) <= length else f'"{line[: length - 3]}..."'


def orphans(manifest: Manifest) -> list[tuple[str, str]]:
    """Notebooks and sources that course.toml does not name, each with what to do about it."""
    known = {notebook.relative for notebook in manifest.notebooks(("lecture", "solution", "lab"))}
    known |= {notebook.relative_source for notebook in manifest.notebooks()}
    known |= {f"sources/wrong/{topic.name}.py" for topic in manifest.topics}
    found = []
    for folder, ending in (
        ("lectures", ".ipynb"),
        ("solutions", ".ipynb"),
        ("labs", ".ipynb"),
        ("sources/lectures", ".py"),
        ("sources/solutions", ".py"),
        ("sources/wrong", ".py"),
    ):
        for path in _files(manifest.root / folder, ending):
            name = f"{folder}/{path.name}"
            if name not in known:
                what = "its source is gone" if ending == ".ipynb" else "nothing builds it"
                remedy = "delete it, or name its topic in course.toml"
                found.append((name, f"{name}: course.toml has no topic {path.stem!r} ({what}): {remedy}"))
    return found


def _files(folder: Path, ending: str) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == ending and not path.name.startswith("."))
