"""What the last run of a profile left behind, as pages to read: `build/report/index.html`.

The folder is self-contained: no page loads anything or runs a script, pictures and style are inside, links are
relative. It is written beside the old report and takes its place when it is whole."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course.errors import CourseError
from course.files import write_atomically
from course.manifest import KINDS, Manifest, Notebook, Profile
from course.notebook import read_notebook, tags, typed_cells
from course.reporting import pages as rendering
from course.reporting.pages import Context, Rendered

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL = (720, 450)  # pixels, for a card half as wide on a sharp screen
STATES = {"passed": "passed", "attention": "needs a look", "failed": "failed", "none": "not run"}
ENDINGS = {
    "failed": "failed",
    "timeout": "ran past its time limit",
    "died": "its kernel died",
    "flooded": "printed without end",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class Metric:
    """One metric of one notebook.

    Its value is None if it was not recorded, its band None if it is not judged. The judgement is that of `course run`:
    every declared metric is recorded, every recorded one declared, and bands are closed.
    """

    name: str
    value: float | None
    band: tuple[float, float] | None
    declared: bool = True  # in course.toml

    @property
    def title(self) -> str:
        return rendering.words_of(self.name)

    @property
    def shown(self) -> str:
        return "not recorded" if self.value is None else rendering.number(self.value)

    @property
    def outside(self) -> bool:
        return self.band is not None and (self.value is None or not self.band[0] <= self.value <= self.band[1])

    @property
    def verdict(self) -> str:
        if self.band is None or self.value is None:
            return ""
        return rendering.verdict(self.value, *self.band)

    @property
    def limits(self) -> str:
        if self.band is None:
            return ""
        exact = self.band[0] == self.band[1] == self.value
        return "exactly" if exact else rendering.limits(*self.band)

    @property
    def drawing(self) -> str:
        if self.band is None or self.value is None:
            return ""
        return rendering.band_drawing(self.title, self.value, *self.band)


@dataclass(frozen=True)
class Usage:
    """Time or memory used, of a budget."""

    name: str
    used: float
    budget: float
    unit: str

    @property
    def over(self) -> bool:
        return self.used > self.budget

    @property
    def shown(self) -> str:
        used, budget = rendering.quantity(self.used), rendering.quantity(self.budget)
        if used == budget and self.over:  # the digits that tell them apart
            used = rendering.number(self.used)
        return f"{used} of {budget} {self.unit}"

    @property
    def drawing(self) -> str:
        return rendering.usage_drawing(self.name, self.used, self.budget, self.shown)


@dataclass
class Entry:
    """One notebook of the report."""

    notebook: Notebook
    state: str = "none"  # a key of STATES
    words: str = "not run"
    problems: list[tuple[str, str]] = field(default_factory=list)  # words, anchor on the notebook's page or ""
    cached: bool = False
    stale: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)  # those that are not the profile's own
    metrics: list[Metric] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    page: str = ""  # path below the report; empty without a page
    asks: str = ""  # of a lab: its gaps, questions and points
    rendered: Rendered | None = None
    thumbnail: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    when: float = 0.0

    @property
    def kind(self) -> str:
        return self.notebook.kind.capitalize()

    @property
    def path(self) -> str:
        """Of the notebook itself, below the report."""
        return self.notebook.relative

    @property
    def other_parameters(self) -> str:
        return ", ".join(f"{name} = {json.dumps(value)}" for name, value in self.parameters.items())

    @property
    def command(self) -> str:
        return f"course run {self.notebook.id}"

    def damaged(self, error: CourseError) -> None:
        """Shown as a notebook that failed, with what is wrong with what it left."""
        self.state, self.words, self.problems = "failed", "cannot be shown", [(str(error), "")]
        self.page, self.rendered, self.result = "", None, {}


def report(manifest: Manifest, profile: str | Profile) -> Path:
    """Write `build/report/` from what is in `build/run/<profile>/`, and return the path of its index.html.

    A notebook that has not run is shown as that. A failing report leaves the one before it as it was.

    A result or an executed notebook that cannot be read costs its own entry, which says so.

    Raises:
        CourseError: for an unknown profile, a folder that cannot be written.
    """
    chosen = profile if isinstance(profile, Profile) else manifest.profile(profile)
    entries = [_entry(manifest, notebook, chosen.name) for notebook in manifest.notebooks()]
    labs = [_lab(notebook) for notebook in manifest.notebooks(("lab",)) if notebook.path.is_file()]
    pages = {entry.notebook.relative: entry.page for entry in (*entries, *labs) if entry.page}
    for entry in (*entries, *labs):
        if entry.page:
            try:
                _render(manifest, entry, chosen.name, pages)
            except CourseError as error:
                entry.damaged(error)
    build = manifest.root / "build"
    try:
        build.mkdir(parents=True, exist_ok=True)
        _sweep(build)
        fresh = Path(tempfile.mkdtemp(prefix=".report-", dir=build))
        try:
            os.chmod(fresh, 0o755)
            _write(manifest, chosen, entries, labs, fresh)
            _swap(fresh, build / "report")
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise CourseError(f"build/report: cannot be written: {error.strerror or error}") from None
    return build / "report" / "index.html"


# ------------------------------------------------------------------------------------------------------ what has run


def executed(manifest: Manifest, notebook: Notebook, profile: str) -> Path:
    """Where the last run of a profile left the notebook; its result lies beside it, as .json."""
    return manifest.root / "build" / "run" / profile / f"{notebook.kind}s" / f"{notebook.stem}.ipynb"


def passed(manifest: Manifest, notebook: Notebook, profile: str) -> Path:
    """The executed notebook. CourseError where it has not run to its end: a page made of it would lack outputs."""
    path = executed(manifest, notebook, profile)
    result = path.with_suffix(".json")
    where = f"{result.parent.name}/{result.name}"
    if not result.is_file() or read_result(result, where, notebook)["status"] != "passed":
        again = f"`course run {notebook.id} --profile {profile}`"
        raise CourseError(f"{notebook.relative} has no run to its end in profile {profile}: {again} first")
    return path


def _entry(manifest: Manifest, notebook: Notebook, profile: str) -> Entry:
    ran = executed(manifest, notebook, profile)
    written = ran.with_suffix(".json")
    entry = Entry(notebook)
    if ran.is_file():
        entry.page = f"{notebook.kind}s/{notebook.stem}.html"
    if not written.is_file():
        entry.words = "not finished" if entry.page else "not run"
        return entry
    try:
        entry.result = result = read_result(written, written.relative_to(manifest.root).as_posix(), notebook)
    except CourseError as error:
        entry.damaged(error)
        return entry
    entry.when = result["when"] or written.stat().st_mtime
    entry.cached = result.get("cached") is True
    entry.state = "passed" if result["status"] == "passed" else "failed"
    entry.words = ENDINGS.get(result["status"], result["status"])
    entry.metrics = _metrics(notebook.bands(profile, result["parameters"]), result["metrics"])
    own = notebook.overrides(profile)
    entry.parameters = {name: value for name, value in result["parameters"].items() if own.get(name, ...) != value}
    minutes, memory = result["cpu_seconds"] / 120, result["peak_rss_bytes"] / 1e9
    entry.usage = [
        Usage("time", minutes, notebook.minutes(profile), "min"),
        Usage("memory", memory, notebook.memory_gb(profile), "GB"),
    ]
    if entry.state == "failed":
        entry.problems.append((entry.words, ""))
    else:
        entry.words = "passed"
        entry.problems += [(_problem(metric), "") for metric in entry.metrics if metric.outside or not metric.declared]
        if not notebook.on_other_data(profile, result["parameters"]):
            entry.problems += [(f"{usage.name} over budget: {usage.shown}", "") for usage in entry.usage if usage.over]
        if entry.problems:
            entry.state, entry.words = "attention", STATES["attention"]
    return entry


def _problem(metric: Metric) -> str:
    if metric.value is None:
        return f"{metric.title} was not recorded"
    if not metric.declared:
        return f"{metric.title} is not declared in course.toml"
    return f"{metric.title} {metric.shown} is {metric.verdict} {metric.limits}"


def _metrics(bands: Mapping[str, tuple[float, float] | None], recorded: Mapping[str, float]) -> list[Metric]:
    declared = [Metric(name, recorded.get(name), band) for name, band in bands.items()]
    return declared + [
        Metric(name, value, None, declared=False) for name, value in recorded.items() if name not in bands
    ]


def read_result(path: Path, where: str, notebook: Notebook) -> dict[str, Any]:
    """The Result of a run, its numbers made sure of."""
    again = f"`course run {notebook.id} --fresh` writes it anew"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{where}: expected the result of a run in JSON, got: {error} ({again})") from None
    if not isinstance(result, dict) or not isinstance(result.get("status"), str):
        raise CourseError(f"{where}: expected the result of a run, got JSON without a status ({again})")
    result["metrics"] = {
        str(name): float(value) for name, value in _table(result, "metrics").items() if isinstance(value, (int, float))
    }
    for key in ("cpu_seconds", "wall_seconds", "peak_rss_bytes", "when"):
        value = result.get(key)
        result[key] = float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
    result["versions"] = {str(name): str(value) for name, value in _table(result, "versions").items()}
    result["error"], result["parameters"] = _table(result, "error"), _table(result, "parameters")
    return result


def _table(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key)
    return value if isinstance(value, dict) else {}


# ------------------------------------------------------------------------------------------------------------- pages


def _render(manifest: Manifest, entry: Entry, profile: str, pages: Mapping[str, str]) -> None:
    """Fill in the entry's page, from the cache when notebook, bands and links are the same as before."""
    notebook = entry.notebook
    lab = notebook.kind == "lab"
    ran = notebook.path if lab else executed(manifest, notebook, profile)
    where = ran.relative_to(manifest.root).as_posix()
    bands = notebook.bands(profile, entry.result.get("parameters") or {})
    try:
        content = ran.read_bytes()
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None
    given = [
        entry.result.get("error"),
        bands,
        dict(pages),
        manifest.repository,
        manifest.tag,
        profile,
        str(manifest.root),
    ]
    key = hashlib.sha256(content + json.dumps(given, sort_keys=True, default=str).encode() + _code()).hexdigest()
    kept = manifest.root / "build" / "cache" / "pages" / profile / f"{notebook.stem}-{notebook.kind}.json"
    found = _kept(kept, key)
    if found is None:
        read = read_notebook(ran, where)
        context = Context(notebook.path.parent, manifest.root, lambda address: link(manifest, notebook, pages, address))
        try:
            rendered = rendering.render(read, context, entry.result.get("error") or None, bands, profile)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CourseError(
                f"{where}: expected a notebook (nbformat 4), got one that cannot be shown: {type(error).__name__}: "
                f"{error} "
                f"(`{'course build' if lab else entry.command + ' --fresh'}` writes it anew)"
            ) from None
        found = rendered, _thumbnail(rendered.thumbnail), _code_of(read)
        _keep(kept, key, *found)
    entry.rendered, entry.thumbnail, code = found
    with contextlib.suppress(CourseError):  # a notebook that is broken now is for `check` to tell
        entry.stale = notebook.path.is_file() and code != _code_of(read_notebook(notebook.path, notebook.relative))
    if entry.state == "failed":
        said = _error_words(entry.result)
        place = f"cell {entry.rendered.failing.removeprefix('cell-')}" if entry.rendered.failing else ""
        words = ": ".join(part for part in (place, said) if part) or entry.words
        entry.problems[0] = (words, entry.rendered.failing or "")


def _error_words(result: Mapping[str, Any]) -> str:
    error = result["error"]
    words = ": ".join(str(error[key]) for key in ("name", "value") if error.get(key))
    ending = ENDINGS.get(result["status"], result["status"])
    return rendering.one_line(words or ending)


def _code() -> bytes:
    """The program's own part of the cache's key: a page is made anew when its renderer has changed."""
    return Path(rendering.__file__).read_bytes() + Path(__file__).read_bytes()


def _code_of(notebook: Mapping[str, Any]) -> str:
    """A hash of the code cells; those that papermill adds do not count."""
    code = [
        cell["source"]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "injected-parameters" not in tags(cell)
    ]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _kept(path: Path, key: str) -> tuple[Rendered, str, str] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return (Rendered(**kept["rendered"]), kept["thumbnail"], kept["code"]) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, key: str, rendered: Rendered, thumbnail: str, code: str) -> None:
    """A cache that cannot be written costs time, nothing else."""
    kept = {"key": key, "thumbnail": thumbnail, "code": code, "rendered": dataclasses.asdict(rendered)}
    with contextlib.suppress(CourseError):
        write_atomically(path, json.dumps(kept))


def link(manifest: Manifest, notebook: Notebook, pages: Mapping[str, str], address: str) -> str:
    """Where a relative link of a notebook leads from its page: to a page of the report, else to the repository."""
    path, fragment = rendering.resolved(address, f"{notebook.kind}s")
    anchor = f"#{fragment}" if fragment else ""
    if path in pages:
        return f"../{pages[path]}{anchor}"
    if path.startswith("../"):
        return manifest.repository
    return f"{manifest.repository}/blob/{manifest.tag}/{path}{anchor}"


def _thumbnail(address: str | None) -> str:
    """The picture, no larger than a card shows it; as it is where it cannot be made smaller."""
    if not address or ";base64," not in address or address.startswith("data:image/svg"):
        return address or ""
    from PIL import Image

    try:
        encoded = base64.b64decode(address.split(";base64,", 1)[1])
        with Image.open(io.BytesIO(encoded)) as picture:
            if picture.width <= THUMBNAIL[0] and picture.height <= THUMBNAIL[1] and len(encoded) < 60_000:
                return address
        small = shrunk(encoded, THUMBNAIL)
    except (OSError, ValueError, Image.DecompressionBombError):
        return address
    return f"data:image/webp;base64,{base64.b64encode(small).decode()}"


def shrunk(content: bytes, size: tuple[int, int]) -> bytes:
    """A picture as WEBP, on white, no wider and no higher than `size` pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGBA")
    small.thumbnail(size, Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", small.size, "white")
    ground.alpha_composite(small)
    written = io.BytesIO()
    ground.convert("RGB").save(written, "WEBP", quality=88, method=4)
    return written.getvalue()


# ------------------------------------------------------------------------------------------------------------ writing


def page_templates(manifest: Manifest) -> Environment:
    """The templates of this folder, which know the course and the style."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(course=manifest, style=(TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment


def _write(manifest: Manifest, profile: Profile, entries: list[Entry], labs: list[Entry], folder: Path) -> None:
    environment = page_templates(manifest)
    environment.globals.update(profile=profile, states=STATES)
    topics = [
        {
            "topic": topic,
            "entries": [entry for entry in entries if entry.notebook.topic is topic],
            "lab": next((lab for lab in labs if lab.rendered and lab.notebook.topic is topic), None),
        }
        for topic in manifest.topics
    ]
    (folder / "index.html").write_text(
        environment.get_template("index.html").render(topics=topics, totals=_totals(entries)), encoding="utf-8"
    )
    order = {notebook.id: index for index, notebook in enumerate(manifest.notebooks(KINDS))}
    shown = [entry for entry in (*entries, *labs) if entry.rendered]
    shown.sort(key=lambda entry: order[entry.notebook.id])
    for index, entry in enumerate(shown):
        page = folder / entry.page
        page.parent.mkdir(exist_ok=True)
        markup = environment.get_template("notebook.html").render(
            entry=entry,
            rendered=entry.rendered,
            before=shown[index - 1] if index else None,
            after=shown[index + 1] if index + 1 < len(shown) else None,
            siblings=[other for other in entries if other.rendered and _beside(other, entry)],
            lab=next((lab for lab in labs if lab.rendered and lab.notebook.topic is entry.notebook.topic), None),
        )
        page.write_text(markup, encoding="utf-8")
    for lab in labs:
        (folder / lab.path).parent.mkdir(exist_ok=True)
        shutil.copyfile(lab.notebook.path, folder / lab.path)


def _beside(other: Entry, entry: Entry) -> bool:
    return other.notebook.topic is entry.notebook.topic and other is not entry


def _lab(notebook: Notebook) -> Entry:
    """The lab as a page to read, and in words what it asks for; one that cannot be read is for `check` to tell."""
    entry = Entry(notebook, page=f"labs/{notebook.stem}.html")
    with contextlib.suppress(CourseError):
        cells = typed_cells(read_notebook(notebook.path, notebook.relative))
        numbers = [sum(cell.role == role for cell in cells) for role in ("gap", "question")]
        asked = [_counted(number, noun) for number, noun in zip(numbers, ("gap", "question")) if number]
        points = sum(cell.points for cell in cells)
        entry.asks = " and ".join(asked) + (f", {_counted(points, 'point')}" if points else "")
    return entry


def _counted(number: Fraction | int, noun: str) -> str:
    return f"{rendering.number(float(number))} {noun}{'' if number == 1 else 's'}"


def _totals(entries: list[Entry]) -> dict[str, Any]:
    ran = [entry for entry in entries if entry.result]
    judged = [metric for entry in ran for metric in entry.metrics if metric.band is not None]
    largest = max(ran, key=lambda entry: entry.usage[1].used, default=None)
    versions: dict[str, list[str]] = {}
    for entry in ran:
        for name, version in entry.result["versions"].items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    when = max((entry.when for entry in ran), default=None)
    return {
        "notebooks": len(entries),
        "ran": len(ran),
        "counts": {state: sum(entry.state == state for entry in entries) for state in STATES},
        "judged": len(judged),
        "inside": sum(not metric.outside for metric in judged),
        "minutes": rendering.quantity(sum(entry.usage[0].used for entry in ran)),
        "budget": rendering.quantity(sum(entry.usage[0].budget for entry in ran)),
        "memory": rendering.quantity(largest.usage[1].used) if largest else "",
        "largest": largest,
        "versions": {name: " / ".join(found) for name, found in versions.items()},
        "when": datetime.fromtimestamp(when) if when else None,
        "written": datetime.now(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "attention": [entry for entry in entries if entry.problems],
    }


def _swap(fresh: Path, old: Path) -> None:
    """Put the new folder in the place of the old one; the old one stays when that fails."""
    aside = fresh.with_name(f"{fresh.name}-old")
    for last in (False, False, True):  # another report may put its own there in between
        with contextlib.suppress(FileNotFoundError):
            os.rename(old, aside)
        try:
            os.rename(fresh, old)
        except OSError:
            if aside.exists() and not old.exists():
                os.rename(aside, old)
            if last:
                raise
        else:
            break
        finally:
            if old.exists():
                shutil.rmtree(aside, ignore_errors=True)


def _sweep(build: Path) -> None:
    """Remove what an interrupted report left; one that is being written is younger than an hour."""
    for left in build.glob(".report-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)
