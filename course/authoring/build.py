"""`course build`: lectures, solutions and labs from their sources.

Nothing is executed, and the same sources give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course.authoring.assemble import Cell, assemble, cell_id, checksum, notebook_text
from course.authoring.sources import Source, read_course_source
from course.errors import CourseError
from course.files import write_atomically
from course.manifest import Manifest, Notebook
from course.notebook import first_words, read_notebook, typed_cells

WORK = "work"  # where students' copies live; git ignores it


@dataclass(frozen=True)
class Built:
    """What `build` found for one notebook.

    `state`: "written", "unchanged", "stale" (not written), "kept" (a lab that holds somebody's work: not written) or
    "broken".
    """

    relative: str
    state: str
    message: str = ""


def build(
    manifest: Manifest, notebooks: Sequence[Notebook] | None = None, check: bool = False, force: bool = False
) -> list[Built]:
    """Build these notebooks (without any: all, and look for files that nothing builds). With `check` write nothing.

    A broken source breaks its own notebooks only; the others are built. A lab in which somebody has worked stays as it
    is; with `force` it is built, and a copy of it goes into `work/`.
    """
    chosen = list(notebooks) if notebooks is not None else manifest.notebooks(("lecture", "solution", "lab"))
    results = []
    sources: dict[str, Source | CourseError] = {}
    for notebook in chosen:
        results.append(_build_one(manifest, notebook, sources, check, force))
    if notebooks is None:
        results += [Built(name, "stale", message) for name, message in orphans(manifest)]
    return results


def _build_one(
    manifest: Manifest, notebook: Notebook, sources: dict[str, Source | CourseError], check: bool, force: bool
) -> Built:
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
    work = _work(built) if built and notebook.kind == "lab" else None
    if work is not None and not force:
        where = f"{notebook.relative}: cell {work + 1} ({first_words(built['cells'][work]) if built else ''})"
        number = f"{notebook.topic.number:02d}"
        remedy = f"`course build {number} --force` builds the lab and keeps a copy in {WORK}/"
        return Built(
            notebook.relative, "kept", f"{where} is not as it was handed out, so it was not overwritten: {remedy}"
        )
    if check:
        return Built(notebook.relative, "stale", message)
    if work is not None and before is not None:
        copy = free_copy(notebook)
        write_atomically(copy, before, manifest.root)
        message = f"{notebook.relative}: its answers are kept in {copy.relative_to(manifest.root).as_posix()}"
    write_atomically(notebook.path, after, manifest.root)
    return Built(notebook.relative, "written", message)


def _work(lab: dict[str, Any]) -> int | None:
    """The first cell of a lab that somebody has changed or added since it was built; outputs are no work.

    A built cell tells what it was: a graded one by nbgrader's checksum, any other by its id.
    """
    for cell in typed_cells(lab):
        grading = lab["cells"][cell.index]["metadata"].get("nbgrader")
        if isinstance(grading, dict) and "checksum" in grading:
            try:
                touched = checksum(cell.type, cell.source, grading) != grading["checksum"]
            except (KeyError, TypeError, ValueError):
                touched = True
        else:
            touched = bool(cell.source.strip()) and not cell.id.startswith(cell_id(cell.type, cell.source))
        if touched:
            return cell.index
    return None


def free_copy(notebook: Notebook) -> Path:
    """`work/01_name.ipynb`, or with the first number that is free."""
    folder, number = notebook.root / WORK, 1
    while (path := folder / f"{notebook.stem}{f'-{number}' if number > 1 else ''}.ipynb").exists():
        number += 1
    return path


def start(notebook: Notebook) -> tuple[Path, bool]:
    """The student's own copy of a lab in `work/`, and whether it was made now. One that is there stays as it is."""
    path = notebook.root / WORK / f"{notebook.stem}.ipynb"
    if path.exists():
        return path, False
    read_notebook(notebook.path, notebook.relative)
    write_atomically(path, notebook.path.read_bytes(), notebook.root)
    return path, True


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
                own = f"move your own copy to {WORK}/, or delete it" if folder == "labs" else "delete it"
                remedy = f"{own}, or name its topic in course.toml"
                found.append((name, f"{name}: course.toml has no topic {path.stem!r} ({what}): {remedy}"))
    return found


def _files(folder: Path, ending: str) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == ending and not path.name.startswith("."))
