"""The one list of the course, `course.toml`, as typed values.

Standard library only: every command reads this first, and a mistake must be told within a second. Every mistake is a
`CourseError` of one line that names the file, the key and what was expected.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from course.errors import CourseError, known_names, shortened

KINDS = ("lecture", "solution", "lab")
MANIFEST = "course.toml"
TOPIC = r"[0-9]{2}_[a-z0-9_]+"


# --------------------------------------------------------------------------------------------------------- typed values


@dataclass(frozen=True)
class Profile:
    """A way to run the course: how many threads each kernel has, and how many notebooks run side by side."""

    name: str
    about: str
    threads: int
    jobs: int
    notice: str = ""  # what a reader of its report must know, such as that its figures mean nothing


@dataclass(frozen=True)
class Spec:
    """What `[topics.lecture]` or `[topics.solution]` says. Tables by profile; the key "" serves all profiles."""

    minutes: Mapping[str, float] = field(hash=False)
    memory_gb: Mapping[str, float] = field(hash=False)
    parameters: Mapping[str, Mapping[str, Any]] = field(hash=False)
    metrics: Mapping[str, Mapping[str, tuple[float, float]]] = field(hash=False)
    data: tuple[str, ...] = ()  # the parameters that choose the data: bands belong to what the profiles choose


@dataclass(frozen=True)
class Topic:
    number: int
    name: str
    title: str
    about: str
    lecture: Spec
    solution: Spec


@dataclass(frozen=True)
class Notebook:
    """One notebook of one topic. A lab has the limits and parameters of the solution it is built from."""

    topic: Topic
    kind: str
    root: Path

    @property
    def id(self) -> str:
        return f"{self.topic.number:02d}/{self.kind}"

    @property
    def stem(self) -> str:
        return self.topic.name

    @property
    def title(self) -> str:
        return f"{self.topic.title}: {self.kind}"

    @property
    def relative(self) -> str:
        """Path of the built notebook below the root, with forward slashes on every system."""
        return f"{self.kind}s/{self.stem}.ipynb"

    @property
    def path(self) -> Path:
        return self.root / self.relative

    @property
    def relative_source(self) -> str:
        return f"sources/{'lectures' if self.kind == 'lecture' else 'solutions'}/{self.stem}.py"

    @property
    def source(self) -> Path:
        return self.root / self.relative_source

    @property
    def wrong(self) -> Path:
        """The file of wrong answers that the checks of this topic must catch."""
        return self.root / "sources" / "wrong" / f"{self.stem}.py"

    @property
    def spec(self) -> Spec:
        return self.topic.lecture if self.kind == "lecture" else self.topic.solution

    def minutes(self, profile: str) -> float:
        """The budget: CPU seconds / 120."""
        return _by_profile(self.spec.minutes, profile)

    def memory_gb(self, profile: str) -> float:
        """The largest resident set of the notebook's processes together, in 10^9 bytes."""
        return _by_profile(self.spec.memory_gb, profile)

    def overrides(self, profile: str) -> dict[str, Any]:
        """Parameters that the profile sets; those of `cpu` are the notebook's own."""
        return dict(self.spec.parameters.get(profile, {}))

    def on_other_data(self, profile: str, parameters: Mapping[str, Any]) -> bool:
        """Whether a run's parameters choose other data than the profile does."""
        own = self.overrides(profile)
        return any(name in parameters and parameters[name] != own.get(name, ...) for name in self.spec.data)

    def bands(
        self, profile: str, parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, tuple[float, float] | None]:
        """Every metric that the notebook must record, and the closed band it must fall in (None: shown, not judged).

        On other data than the profile's, by the run's `parameters`, no band is judged: it was measured on these.
        """
        if self.on_other_data(profile, parameters):
            return dict.fromkeys(self.spec.metrics)
        return {name: bands.get(profile, bands.get("")) for name, bands in self.spec.metrics.items()}


@dataclass(frozen=True)
class Manifest:
    root: Path
    title: str
    repository: str
    tag: str
    data: str
    topics: tuple[Topic, ...]
    profiles: Mapping[str, Profile] = field(hash=False)
    ranges: Mapping[str, tuple[float, float]] = field(hash=False, default_factory=dict)
    in_preparation: tuple[str, ...] = ()  # names of topics that are announced and not yet here
    timed: tuple[str, ...] = ()  # patterns of metrics that are measured times: they alone differ between two runs

    def is_timed(self, metric: str) -> bool:
        """Whether a metric is a measured time, or made of such."""
        return any(fnmatchcase(metric, pattern) for pattern in self.timed)

    def range_of(self, metric: str) -> tuple[float, float] | None:
        """What a metric can be at all: the range of the first pattern that fits its name; None when none does."""
        return next((limits for pattern, limits in self.ranges.items() if fnmatchcase(metric, pattern)), None)

    def notebooks(self, kinds: Iterable[str] = ("lecture", "solution")) -> list[Notebook]:
        """Every notebook of these kinds, topic by topic."""
        kinds = tuple(kinds)
        return [Notebook(topic, kind, self.root) for topic in self.topics for kind in KINDS if kind in kinds]

    def profile(self, name: str) -> Profile:
        if name not in self.profiles:
            raise CourseError(f"unknown profile {name!r} ({known_names(name, self.profiles)})")
        return self.profiles[name]

    def select(self, selectors: Iterable[str], kinds: Iterable[str] = ("lecture", "solution")) -> list[Notebook]:
        """The notebooks that the selectors name, in the order of the manifest; without a selector all of these kinds.

        A selector is a topic's number (`6`, `06`), its name or a part of it (`06_transfer_learning`, `transfer`), a
        notebook's id (`06/lecture`), or the path of a built notebook or its source, which decides the kind by itself.
        """
        selectors, kinds = list(selectors), tuple(kinds)
        if not selectors:
            return self.notebooks(kinds)
        chosen: set[str] = set()
        for selector in selectors:
            chosen.update(notebook.id for notebook in self._one(selector, kinds))
        return [notebook for notebook in self.notebooks(KINDS) if notebook.id in chosen]

    def _one(self, selector: str, kinds: tuple[str, ...]) -> list[Notebook]:
        everything = self.notebooks(KINDS)
        for notebook in everything:
            if selector in (notebook.id, f"{notebook.stem}/{notebook.kind}"):
                return [notebook]
        topic, _, kind = selector.partition("/")
        if kind in KINDS and any(topic in (name, name[:2]) for name in self.in_preparation):
            return self._one(topic, kinds)
        if selector.endswith((".ipynb", ".py")) or "/" in selector or os.sep in selector:
            tried = {Path(selector).absolute(), self.root / selector, Path(os.path.realpath(selector))}
            found = [
                notebook
                for notebook in everything
                if {notebook.path, Path(os.path.realpath(notebook.path))} & tried
                or ({notebook.source, Path(os.path.realpath(notebook.source))} & tried and notebook.kind != "lab")
            ]
            if not found:
                names = [notebook.relative for notebook in everything if notebook.kind in kinds]
                raise CourseError(f"no notebook {selector!r} in this course ({known_names(selector, names)})")
            return found
        word = selector.lower()
        exact = [topic for topic in self.topics if word in (topic.name, str(topic.number), f"{topic.number:02d}")]
        topics = exact or [topic for topic in self.topics if word and not word.isdigit() and word in topic.name]
        coming = [name for name in self.in_preparation if word in (name, str(int(name[:2])), name[:2])]
        if not topics and coming:
            here = f"{self.topics[0].number:02d} to {self.topics[-1].number:02d}"
            raise CourseError(f"topic {coming[0]} is in preparation: this version of the course has {here}")
        if not topics:
            raise CourseError(f"no topic {selector!r} ({known_names(word, [topic.name for topic in self.topics])})")
        if len(topics) > 1:
            names = [topic.name for topic in topics]
            raise CourseError(f"{selector!r} may be any of {', '.join(names)}: give the number")
        return [Notebook(topics[0], kind, self.root) for kind in KINDS if kind in kinds]


def _by_profile(values: Mapping[str, float], profile: str) -> float:
    return values.get(profile, values.get("cpu", values.get("", 0.0)))


# -------------------------------------------------------------------------------------------------- reading course.toml


def find_root(start: str | Path | None = None) -> Path:
    """The folder of the course: `start` if given, else COURSE_ROOT, else upward from here to the first course.toml."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise CourseError("the current folder is gone: go to the folder of the course") from None
    given = start if start is not None else os.environ.get("COURSE_ROOT") or None
    if given is not None:
        root = Path(given).expanduser().absolute()
        if not (root / MANIFEST).is_file():
            said = "--root" if start is not None else "COURSE_ROOT"
            raise CourseError(f"no {MANIFEST} in {given} ({said} must name the folder of the course)")
        return Path(os.path.normpath(root))
    for folder in (here, *here.parents):
        if (folder / MANIFEST).is_file():
            return folder
    raise CourseError(f"no {MANIFEST} in {here} or above it: go to the folder of the course, or give --root FOLDER")


class _Table:
    """A TOML table with its place in the file; every reading method names that place when the value is wrong."""

    def __init__(self, value: Any, place: str, known: Iterable[str] | None = None) -> None:
        self.place = place
        if not isinstance(value, dict):
            self.wrong("a table", value)
        self.value: dict[str, Any] = value
        if known is not None:
            known = list(known)
            for key in value:
                if key not in known:
                    raise CourseError(f"{MANIFEST}: {self.at(key)}: unknown key ({known_names(key, known)})")

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def wrong(self, expected: str, value: Any, key: str | None = None) -> NoReturn:
        place = self.place if key is None else self.at(key)
        got = json.dumps(value) if isinstance(value, bool) else repr(value)
        raise CourseError(f"{MANIFEST}: {place}: expected {expected}, got {shortened(got)}")

    def get(self, key: str, expected: str) -> Any:
        if key not in self.value:
            raise CourseError(f"{MANIFEST}: {self.at(key)}: missing; expected {expected}")
        return self.value[key]

    def text(self, key: str, expected: str = "a text", pattern: str = r"\S.*") -> str:
        value = self.get(key, expected)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self.wrong(expected, value, key)
        return value

    def count(self, key: str) -> int:
        value = self.get(key, "a whole number from 1 on")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.wrong("a whole number from 1 on", value, key)
        return value

    def table(self, key: str, known: Iterable[str] | None = None) -> _Table:
        return _Table(self.get(key, "a table"), self.at(key), known)

    def optional(self, key: str, known: Iterable[str] | None = None) -> _Table:
        return _Table(self.value.get(key, {}), self.at(key), known)

    def positive(self, key: str, expected: str = "a number") -> float:
        value = self.get(key, expected)
        if not _is_number(value):
            self.wrong(expected, value, key)
        if value <= 0:
            self.wrong(f"{expected} above 0", value, key)
        return float(value)

    def positive_by_profile(self, key: str, profiles: Iterable[str]) -> dict[str, float]:
        """`minutes = 2` or `minutes = { cpu = 2, smoke = 1 }`."""
        if not isinstance(self.get(key, "a number, or numbers by profile"), dict):
            return {"": self.positive(key)}
        table = self.table(key, profiles)
        table.get("cpu", "a number (a profile that is not named takes it)")
        return {profile: table.positive(profile) for profile in table.value}

    def band(self, key: str, expected: str = "a band [low, high]", finite: bool = True) -> tuple[float, float]:
        value = self.value[key]
        if not isinstance(value, list) or len(value) != 2 or not all(_is_number(bound, finite) for bound in value):
            self.wrong(expected, value, key)
        if value[0] > value[1]:
            self.wrong(f"{expected} with low <= high", value, key)
        return float(value[0]), float(value[1])


def _is_number(value: Any, finite: bool = True) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) if finite else not math.isnan(value)
    except OverflowError:  # a whole number beyond every float
        return False


def load(root: str | Path) -> Manifest:
    """Read `<root>/course.toml`. Whether the sources it names exist is for `build` and `check` to say."""
    root = Path(root)
    try:
        document = tomllib.loads((root / MANIFEST).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CourseError(f"{MANIFEST}: expected UTF-8 text, got byte {error.start} that is none") from None
    except (ValueError, RecursionError) as error:  # a giant number or deep nesting is no TOMLDecodeError
        raise CourseError(f"{MANIFEST}: not TOML: {error}") from None
    except OSError as error:
        raise CourseError(f"{root / MANIFEST}: {error.strerror or error}") from None
    top = _Table(document, "", ("course", "profiles", "ranges", "topics"))
    course = top.table("course", ("title", "repository", "tag", "data", "in_preparation", "timed"))
    profiles = _profiles(top.table("profiles"))
    topics = top.get("topics", "at least one [[topics]]")
    if not isinstance(topics, list) or not topics:
        top.wrong("at least one [[topics]]", topics, "topics")
    read = tuple(_topic(value, f"topics[{index}]", tuple(profiles)) for index, value in enumerate(topics))
    _no_two_alike(read)
    return Manifest(
        root=root,
        title=course.text("title"),
        repository=course.text("repository", "https://github.com/OWNER/NAME", r"https://github\.com/[\w.-]+/[\w.-]+"),
        tag=course.text("tag", "a tag of the repository, such as v0.1.0", r"[\w.-]+"),
        data=course.text("data", "an address such as https://...", r"(https?|file)://[^\s\"'\\]+"),
        topics=read,
        profiles=profiles,
        ranges=_ranges(top.optional("ranges")),
        in_preparation=_in_preparation(course, read),
        timed=_timed(course, read),
    )


def _ranges(table: _Table) -> dict[str, tuple[float, float]]:
    expected = "a range [low, high], either of which may be inf"
    return {pattern: table.band(pattern, expected, finite=False) for pattern in table.value}


def _timed(course: _Table, topics: tuple[Topic, ...]) -> tuple[str, ...]:
    patterns = course.value.get("timed", [])
    expected = "a list of patterns, each of a metric that some notebook records"
    metrics = {metric for topic in topics for spec in (topic.lecture, topic.solution) for metric in spec.metrics}
    if not isinstance(patterns, list):
        course.wrong(expected, patterns, "timed")
    for pattern in patterns:
        if not isinstance(pattern, str) or not any(fnmatchcase(metric, pattern) for metric in metrics):
            course.wrong(expected, pattern, "timed")
    return tuple(patterns)


def _in_preparation(course: _Table, topics: tuple[Topic, ...]) -> tuple[str, ...]:
    names = course.value.get("in_preparation", [])
    taken = {topic.number for topic in topics}
    expected = "a list of names such as 08_localization, none with the number of a topic that is here"
    if not isinstance(names, list):
        course.wrong(expected, names, "in_preparation")
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(TOPIC, name) or int(name[:2]) in taken:
            course.wrong(expected, name, "in_preparation")
    return tuple(names)


def _profiles(table: _Table) -> dict[str, Profile]:
    profiles = {}
    for name in table.value:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise CourseError(f"{MANIFEST}: {table.at(name)}: expected a name of lower-case letters and digits")
        profile = table.table(name, ("about", "threads", "jobs", "notice"))
        notice = profile.text("notice") if "notice" in profile.value else ""
        profiles[name] = Profile(name, profile.text("about"), profile.count("threads"), profile.count("jobs"), notice)
    if "cpu" not in profiles:
        raise CourseError(f"{MANIFEST}: profiles.cpu: missing; expected a table (the notebooks' own values)")
    return profiles


def _topic(value: Any, place: str, profiles: tuple[str, ...]) -> Topic:
    table = _Table(value, place, ("name", "title", "about", "lecture", "solution"))
    name = table.text("name", "a name such as 01_convolution_arithmetic", TOPIC)
    return Topic(
        number=int(name[:2]),
        name=name,
        title=table.text("title"),
        about=table.text("about"),
        lecture=_spec(table, "lecture", profiles),
        solution=_spec(table, "solution", profiles),
    )


def _spec(topic: _Table, kind: str, profiles: tuple[str, ...]) -> Spec:
    table = topic.table(kind, ("minutes", "memory_gb", "parameters", "metrics", "data"))
    parameters = {}
    overrides = table.optional("parameters")
    if "cpu" in overrides.value:
        raise CourseError(f"{MANIFEST}: {overrides.at('cpu')}: expected nothing (cpu's are the notebook's own values)")
    for profile in _Table(overrides.value, overrides.place, profiles).value:
        values = overrides.table(profile)
        for name, override in values.value.items():
            _literal(values, name, override)
        parameters[profile] = dict(values.value)
    metrics: dict[str, dict[str, tuple[float, float]]] = {}
    declared = table.optional("metrics")
    for name, band in declared.value.items():
        if not name.isidentifier():
            raise CourseError(f"{MANIFEST}: {declared.at(name)}: expected a name such as accuracy")
        if isinstance(band, dict):
            by_profile = declared.table(name, profiles)
            metrics[name] = {profile: by_profile.band(profile) for profile in by_profile.value}
        else:
            metrics[name] = {"": declared.band(name)}
    return Spec(
        minutes=table.positive_by_profile("minutes", profiles),
        memory_gb=table.positive_by_profile("memory_gb", profiles),
        parameters=parameters,
        metrics=metrics,
        data=_data(table),
    )


def _data(table: _Table) -> tuple[str, ...]:
    names = table.value.get("data", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isidentifier() for name in names):
        table.wrong('names of the parameters that choose the data, such as ["dataset"]', names, "data")
    return tuple(names)


def _literal(table: _Table, key: str, value: Any) -> None:
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, (bool, int, float, str)) or (isinstance(part, float) and not math.isfinite(part)):
            table.wrong("a number, a text, true or false, or a list of these", value, key)


def _no_two_alike(topics: tuple[Topic, ...]) -> None:
    seen: dict[int, str] = {}
    for index, topic in enumerate(topics):
        if topic.number in seen:
            other = seen[topic.number]
            raise CourseError(
                f"{MANIFEST}: topics[{index}].name: expected a number of its own, got {topic.name!r} beside {other!r}"
            )
        seen[topic.number] = topic.name
