"""A notebook from its source: what jupytext makes of it, with ids, nbgrader's metadata and checked outputs.

Lectures and solutions are exactly that, so that JupyterLab can write its edits back to the source. Labs are
transformed: stubs stand in the place of answers, and hidden tests are gone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from course.authoring.sources import JUPYTEXT_KEYS, MARKER, Source, check_id, read_course_source
from course.files import write_atomically
from course.manifest import Manifest, Notebook
from course.notebook import CHECKED, WIDEST, read_notebook, tags

Cell = dict[str, Any]
ANSWER = "*Your answer here.*"
_NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


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
# On Colab this installs the course; elsewhere it only looks whether it is there.
import importlib.util
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("utils") is None:
    address = "git+{manifest.repository}@{manifest.tag}"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", address], check=True
    )
    importlib.invalidate_caches()
found = importlib.util.find_spec("utils")
if found is None:
    raise ImportError(
        "the course is not installed here: see 'Two commands' in its README"
    )
folders = list(found.submodule_search_locations or [])
if not any(pathlib.Path(folder, "session.py").is_file() for folder in folders):
    hiding = found.origin or folders[0]
    raise ImportError(
        f"{{hiding}} hides the course's own utils: rename it and restart the kernel"
    )
_ = importlib.import_module("utils")"""


def make_notebook(notebook: Notebook, built: dict[str, Any] | None = None) -> dict[str, Any]:
    """The notebook that the source gives. Checked outputs are taken from `built`, where the cell is unchanged."""
    return assemble(notebook, read_course_source(notebook), built)


def assemble(notebook: Notebook, source: Source, built: dict[str, Any] | None) -> dict[str, Any]:
    lab = notebook.kind == "lab"
    checks: dict[str, int] = {}
    cells = []
    for index, read in enumerate(source.cells):
        metadata, text = dict(read["metadata"]), read["source"]
        if lab:
            metadata = {key: value for key, value in metadata.items() if key not in JUPYTEXT_KEYS}
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
        marker = MARKER.fullmatch(line)
        if not marker:
            if not inside:
                kept.append(line)
            continue
        inside = marker[2] == "BEGIN"
        if inside and "gap" in metadata:
            kept += _stub(marker[1], metadata["stub"])
        elif inside and "question" in metadata:
            kept.append(ANSWER)
    return text if kept == text.split("\n") else "\n".join(kept).rstrip("\n")


def _stub(indent: str, words: str) -> list[str]:
    """The lines that stand in the place of an answer: one, or as many as it takes to keep to `WIDEST` characters."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    line = f"{indent}raise NotImplementedError({quoted(words)})"
    if len(line) <= WIDEST:
        return [line]
    deeper = f"{indent}    "
    pieces = [""]
    for word in re.findall(r"\s*\S+\s*", words):
        if pieces[-1] and len(deeper + quoted(pieces[-1] + word)) > WIDEST:
            pieces.append("")
        pieces[-1] += word
    return [f"{indent}raise NotImplementedError(", *(deeper + quoted(piece) for piece in pieces), f"{indent})"]


def _nbgrader(cell: Cell, checks: dict[str, int]) -> dict[str, Any] | None:
    """nbgrader's own metadata (schema 3), from the keys of the source."""
    metadata = cell["metadata"]
    if "gap" in metadata:
        grade_id, grade, solution, locked = metadata["gap"], False, True, False
    elif "check" in metadata:
        checks[metadata["check"]] = number = checks.get(metadata["check"], 0) + 1
        grade_id, grade, solution, locked = check_id(metadata["check"], number), True, False, True
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
