"""Bands from measured values: the files of `calibration/`, and the interval that so many seeds carry.

A metric's band is a two-sided normal tolerance interval: with 90 % confidence it holds 95 % of all runs. Few seeds give
a wide band, many a narrow one."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from course.errors import CourseError
from course.files import write_atomically
from course.manifest import Notebook

COVERED = 0.95  # of all runs
CONFIDENCE = 0.90
DIGITS = 2  # of a band's width: its bounds are rounded outward to these
EXACT_DIGITS = 3  # of a value that is the same with every seed: another machine rounds otherwise, so an answer may turn
# A band says nothing that covers so much of the metric's range, or whose ends lie so far apart where the range is open.
WIDE_SHARE, WIDE_FACTOR = 0.5, 5.0

Range = tuple[float, float]


@dataclass(frozen=True)
class Run:
    """What a notebook recorded with one seed.

    `content` is a hash of what the values depend on besides the seed: code without comments, lock, versions, threads,
    and the `files` that the notebook read, by their paths below the root.
    """

    profile: str
    seed: int
    content: str
    files: list[str]
    metrics: dict[str, float]
    versions: dict[str, str]


def calibration_path(notebook: Notebook) -> Path:
    """`calibration/06_transfer_learning.lecture.json`"""
    return notebook.root / "calibration" / f"{notebook.stem}.{notebook.kind}.json"


def read_runs(notebook: Notebook) -> list[Run]:
    """The stored runs; none without the file. CourseError for a file that is damaged."""
    path = calibration_path(notebook)
    where = path.relative_to(notebook.root)
    try:
        runs = [Run(**run) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
        for run in runs:
            if not all(type(value) in (int, float) for value in run.metrics.values()) or type(run.seed) is not int:
                raise ValueError(f"profile {run.profile}, seed {run.seed}: a value is no number")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = f"expected the runs that `course calibrate` stores, got: {type(error).__name__}: {error}"
        raise CourseError(f"{where}: {message} (delete it, or get it back from git)") from None
    return runs


def store_run(notebook: Notebook, run: Run, is_timed: Callable[[str], bool] = lambda metric: False) -> list[Run]:
    """Add a run to the notebook's file. Runs of its profile with other code go: the runs that went.

    They stay where one of them has this run's seed and recorded the same values, times apart: a notebook repeats itself
    to the last bit, so what has changed in the code since then does not touch its values."""
    from filelock import FileLock

    lock = notebook.root / "build" / "calibrate" / "lock"  # two calibrations may go on side by side
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        return _store(notebook, run, is_timed)


def _store(notebook: Notebook, run: Run, is_timed: Callable[[str], bool]) -> list[Run]:
    runs = read_runs(notebook)
    gone = [old for old in runs if old.profile == run.profile and old.content != run.content]

    def values(one: Run) -> dict[str, float]:
        return {name: value for name, value in one.metrics.items() if not is_timed(name)}

    if any(old.seed == run.seed and values(old) == values(run) for old in gone):
        runs = [replace(old, content=run.content, files=run.files) if old in gone else old for old in runs]
        gone = []
    kept = [old for old in runs if old not in gone and (old.profile, old.seed) != (run.profile, run.seed)]
    stored = [asdict(each) for each in sorted([*kept, run], key=lambda each: (each.profile, each.seed))]
    text = json.dumps({"notebook": notebook.relative, "runs": stored}, indent=1, sort_keys=True) + "\n"
    write_atomically(calibration_path(notebook), text, notebook.root)
    return gone


def values_of(runs: Sequence[Run], profile: str) -> dict[str, list[float]]:
    """Each metric's values in this profile, seed by seed."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.metrics.items() if run.profile == profile else ():
            values.setdefault(name, []).append(value)
    return values


def howe(runs: int, covered: float = COVERED, confidence: float = CONFIDENCE) -> float:
    """How many standard deviations a two-sided normal tolerance interval reaches on either side of the mean.

    Howe (1969), Two-sided tolerance limits for normal populations, some improvements, JASA 64: within 1 % of the exact
    factor from three runs on. At least two runs."""
    from scipy.special import chdtri  # a fifth of the time that scipy.stats takes to import

    freedom = runs - 1
    normal = statistics.NormalDist().inv_cdf((1 + covered) / 2)
    return float(normal * math.sqrt(freedom * (1 + 1 / runs) / chdtri(freedom, confidence)))


def proposed(values: Sequence[float], limits: Range | None = None) -> Range:
    """The band that these values of a metric carry, one value a seed, two at least; `limits` is the metric's own range.

    A metric that is the same with every seed has its own value as its band, with room in the third digit unless it is
    a whole number."""
    if min(values) == max(values):
        value = values[0]
        unit = 0.0 if value == round(value) else 10.0 ** (math.floor(math.log10(abs(value))) + 1 - EXACT_DIGITS)
        low, high = (value, value) if not unit else _outward(value - unit / 2, value + unit / 2, unit)
    else:
        mean, reach = statistics.fmean(values), howe(len(values)) * statistics.stdev(values)
        low, high = _outward(mean - reach, mean + reach, 10.0 ** (math.floor(math.log10(2 * reach)) + 1 - DIGITS))
    if limits is not None:
        low, high = max(low, min(limits[0], *values)), min(high, max(limits[1], *values))
    return low, high


def _outward(low: float, high: float, unit: float) -> Range:
    """The bounds as the next multiples of a power of ten, without the noise of binary fractions."""
    places = max(0, -round(math.log10(unit)))
    return round(math.floor(low / unit) * unit, places), round(math.ceil(high / unit) * unit, places)


def says_nothing(band: Range, limits: Range | None) -> str:
    """Why a band is too wide to say anything, in words; empty for one that says something."""
    low, high = band
    if limits is not None and all(map(math.isfinite, limits)):
        share = (high - low) / (limits[1] - limits[0])
        return f"covers {100 * share:.0f} % of what the metric can be" if share >= WIDE_SHARE else ""
    if low < high and low <= 0 <= high:
        return "does not even tell the sign"
    factor = max(abs(low), abs(high)) / min(abs(low), abs(high)) if low < high else 1.0
    return f"has ends that lie a factor of {factor:.1f} apart" if factor >= WIDE_FACTOR else ""


def beyond(band: Range, values: Sequence[float], limits: Range | None) -> Range | None:
    """The band that these values carry, where the given one leaves out a part of it."""
    carried = proposed(values, limits)
    return carried if carried[0] < band[0] or carried[1] > band[1] else None
