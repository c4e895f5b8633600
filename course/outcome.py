"""How the execution of a notebook ended: cell by cell, as a whole, and held against its budgets and bands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from course.manifest import Notebook, Profile

GIGABYTE = 10**9


@dataclass
class CellResult:
    """How one code cell ended.

    `index`: its place in the notebook as given; `name` and `message`: the error's class and text; `traceback`: plain
    text."""

    index: int
    id: str
    status: str  # "passed", "failed", "timeout", "flooded", "died" or "skipped"
    name: str = ""
    message: str = ""
    traceback: str = ""
    wall_seconds: float = 0.0
    output_bytes: int = 0


@dataclass
class Result:
    """How it ended.

    `error` is None when it passed, else: `cell` (position in the notebook as given, papermill's own cell not counted;
    None when no cell had begun), `cell_id`, `name`, `value`, `traceback` (plain text) and `source` (first line of the
    cell)."""

    notebook: str
    status: str  # "passed", "failed", "timeout", "died", "flooded" or "cancelled"
    error: dict[str, Any] | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_rss_bytes: int = 0
    cells: list[CellResult] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)  # metrics that are no finite number, as they were recorded
    files: dict[str, str] = field(
        default_factory=dict
    )  # what the notebook read, by path: digests; "" where it has changed
    kernel: str = ""  # "forked", or "cold: " and why there was no template to fork

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Result:
        """The result of which `dataclasses.asdict` made this table. TypeError or KeyError when it is none."""
        return cls(**{**told, "cells": [CellResult(**cell) for cell in told["cells"]]})


@dataclass
class Outcome:
    """How one notebook fared: its result, and in words what is wrong with a notebook that passed."""

    notebook: Notebook
    result: Result
    problems: list[str] = field(default_factory=list)  # budgets left, bands left, metrics missing or not declared
    cached: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.result.status == "passed" and not self.problems


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes for which the course fails."""
    return [outcome for outcome in outcomes if not outcome.good]


def judge(
    notebook: Notebook, profile: Profile, result: Result, parameters: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """What is wrong with a result that passed: budgets are CPU seconds / 120 and peak memory, bands are closed.

    On other data than the profile's, by the run's `parameters`, bands and budgets are shown and not judged.
    """
    if result.status != "passed":
        return []
    problems: list[str] = []
    other = notebook.on_other_data(profile.name, parameters)
    minutes, budget = result.cpu_seconds / 120, notebook.minutes(profile.name)
    if minutes > budget and not other:
        problems.append(
            f"took {minutes:.3g} minutes ({result.cpu_seconds:.0f} CPU seconds / 120), its budget is {budget:g}"
        )
    memory, most = result.peak_rss_bytes / GIGABYTE, notebook.memory_gb(profile.name)
    if memory > most and not other:
        problems.append(f"took {memory:.3g} GB of memory at its peak, its budget is {most:g}")
    bands = notebook.bands(profile.name, parameters)
    for name, band in bands.items():
        value = result.metrics.get(name)
        if name in result.unreadable:
            continue
        if value is None:
            problems.append(f"metric {name} is declared in course.toml, but no cell recorded it")
        elif band is not None and not band[0] <= value <= band[1]:
            problems.append(f"metric {name} is {number(value, 6)}, outside its band {limits(band)}")
    for name, text in result.unreadable.items():
        problems.append(f"metric {name}: expected a finite number, but a cell recorded {text}")
    for name in result.metrics:
        if name not in bands:
            problems.append(f"metric {name} was recorded, but course.toml does not declare it")
    return problems


def number(value: float, digits: int = 4) -> str:
    """Whole numbers whole, `15,470,264,320`; others to so many digits."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.{digits}g}"


def limits(band: tuple[float, float]) -> str:
    """`5 to 7.25`, `212`."""
    low, high = (number(bound, 6) for bound in band)
    return low if band[0] == band[1] else f"{low} to {high}"
