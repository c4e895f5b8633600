"""Two runs of the course held against each other: what a maintainer reads after an update of Keras.

Each run is a folder as `course run` leaves it, such as `build/run/smoke`, copied away before the next one.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.files import write_atomically
from course.manifest import Manifest, Notebook
from course.notebook import pictures, read_notebook
from course.reporting.pages import number
from course.reporting.report import ENDINGS, page_templates, read_result

ALIKE = 1e-6  # relative: metrics closer than this are the same
SEEN = 8 / 255  # of a colour channel: a pixel that differs by more is seen


@dataclass(frozen=True)
class Moved:
    """A metric whose value changed, or that one of the runs lacks (None)."""

    name: str
    before: float | None
    after: float | None
    band: tuple[float, float] | None

    @property
    def left_band(self) -> bool:
        """Whether it was in its band before, and is not now."""
        return self._inside(self.before) and not self._inside(self.after)

    def _inside(self, value: float | None) -> bool:
        return self.band is None or (value is not None and self.band[0] <= value <= self.band[1])

    @property
    def words(self) -> str:
        values = " → ".join("none" if value is None else number(value) for value in (self.before, self.after))
        return values + (f", band {number(self.band[0])} to {number(self.band[1])}" if self.band else "")


@dataclass(frozen=True)
class Pair:
    """A picture of both runs that does not look the same, as data addresses; "" where a run has none."""

    cell: str
    before: str
    after: str
    changed: float  # share of the pixels that differ visibly


@dataclass
class Difference:
    """One notebook in both runs."""

    notebook: Notebook
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    moved: list[Moved] = field(default_factory=list)
    metrics: int = 0
    pictures: list[Pair] = field(default_factory=list)
    drawn: int = 0

    @property
    def broken(self) -> bool:
        """Whether it passed before, and does not now."""
        return self.before["status"] == "passed" != self.after["status"]

    @property
    def status(self) -> str:
        return " → ".join(ENDINGS.get(run["status"], run["status"]) for run in (self.before, self.after))

    @property
    def ratios(self) -> dict[str, float]:
        """CPU seconds and memory of the second run, as multiples of the first; nan where that has none."""
        keys = {"time": "cpu_seconds", "memory": "peak_rss_bytes"}
        return {
            name: self.after[key] / self.before[key] if self.before[key] else math.nan for name, key in keys.items()
        }

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        ratios = ", ".join(f"{name} x {value:.2f}" for name, value in self.ratios.items() if not math.isnan(value))
        moved = f"{len(self.moved)} of {self.metrics} metrics moved" if self.moved else f"{self.metrics} metrics alike"
        seen = (
            f"{len(self.pictures)} of {self.drawn} pictures differ" if self.pictures else f"{self.drawn} pictures alike"
        )
        ending = "" if self.before["status"] == self.after["status"] == "passed" else f"{self.status}; "
        return f"{self.notebook.id}: {ending}{moved}, {seen}, {ratios}"


def compare(manifest: Manifest, before: str | Path, after: str | Path, profile: str) -> tuple[list[Difference], Path]:
    """Hold two folders of runs against each other, and write `build/compare/index.html`.

    Args:
        manifest: of the course.
        before, after: folders with `lectures/` and `solutions/`, as `course run` fills `build/run/<profile>`.
        profile: whose bands the metrics are held against.

    Returns:
        the notebooks that ran in both, and the page.

    Raises:
        CourseError: a folder without runs, no notebook in both, a result that cannot be read.
    """
    folders = [Path(before), Path(after)]
    for folder in folders:
        if not any(folder.glob("*/*.json")):
            raise CourseError(
                f"{folder}: expected runs of notebooks, such as lectures/*.json, as `course run` leaves them"
            )
    differences, missing = [], []
    for notebook in manifest.notebooks():
        written = [(folder / notebook.relative).with_suffix(".json") for folder in folders]
        there = [path.is_file() for path in written]
        if all(there):
            differences.append(_difference(manifest, notebook, written, profile))
        elif any(there):
            missing.append(f"{notebook.id} ran only {'before' if there[0] else 'after'}")
    if not differences:
        raise CourseError(f"{folders[0]} and {folders[1]}: no notebook ran in both")
    page = manifest.root / "build" / "compare" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, _page(manifest, differences, missing, folders))
    return differences, page


def _difference(manifest: Manifest, notebook: Notebook, written: list[Path], profile: str) -> Difference:
    before, after = (read_result(path, str(path), notebook) for path in written)
    found = Difference(notebook, before, after)
    values = [before["metrics"], after["metrics"]]
    names = list(dict.fromkeys([*values[0], *values[1]]))
    found.metrics = len(names)
    bands = notebook.bands(profile, after["parameters"])
    for name in names:
        one, two = (metrics.get(name) for metrics in values)
        if one is None or two is None or not math.isclose(one, two, rel_tol=ALIKE, abs_tol=1e-12):
            found.moved.append(Moved(name, one, two, bands.get(name)))
    found.moved.sort(key=lambda moved: not moved.left_band)
    drawn = [dict(_pictures(path.with_suffix(".ipynb"))) for path in written]
    for place in dict.fromkeys([*drawn[0], *drawn[1]]):
        found.drawn += 1
        one, two = (shown.get(place, "") for shown in drawn)
        changed = _changed(one, two)
        if changed:
            found.pictures.append(Pair(place[0], _address(one), _address(two), changed))
    return found


def _pictures(path: Path) -> Iterator[tuple[tuple[str, int], str]]:
    """((id of the cell, which of its pictures), PNG in base 64) of an executed notebook."""
    if not path.is_file():
        return
    for cell in read_notebook(path, str(path))["cells"]:
        for place, encoded in enumerate(pictures(cell)):
            yield (str(cell.get("id", "")), place), encoded


def _address(encoded: str) -> str:
    return f"data:image/png;base64,{encoded}" if encoded else ""


def _changed(before: str, after: str) -> float:
    """The share of pixels that look different: 0 for two pictures that look the same, 1 if one is missing or has
    another size.
    """
    if before == after:
        return 0.0
    if not before or not after:
        return 1.0
    import numpy as np
    from PIL import Image

    try:
        pixels = []
        for encoded in (before, after):
            with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
                pixels.append(np.asarray(picture.convert("RGB"), float) / 255)
    except (OSError, ValueError):
        return 1.0
    if pixels[0].shape != pixels[1].shape:
        return 1.0
    return float((np.abs(pixels[0] - pixels[1]).max(axis=-1) > SEEN).mean())


def _page(manifest: Manifest, differences: list[Difference], missing: list[str], folders: list[Path]) -> str:
    versions: list[Mapping[str, str]] = []
    for key in ("before", "after"):
        found = [getattr(difference, key)["versions"] for difference in differences]
        versions.append(next(filter(None, found), {}))
    return (
        page_templates(manifest)
        .get_template("compare.html")
        .render(
            differences=differences,
            missing=missing,
            folders=[str(folder) for folder in folders],
            versions=versions,
        )
    )
