"""`course build`: lectures, solutions and labs from their sources.

Nothing is executed, and the same sources give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course.authoring.assemble import Cell, assemble, notebook_text
from course.authoring.sources import Source, read_course_source
from course.errors import CourseError
from course.files import write_atomically
from course.manifest import Manifest, Notebook
from course.notebook import first_words, read_notebook


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
    made = assemble(notebook, source, built)
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
