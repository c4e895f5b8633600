"""The one list of the course, `course.toml`, and the parameters of its notebooks, as typed values.

Standard library only: every command reads this first, and a mistake must be told within a second. Every mistake is a
`CourseError` of one line that names the file, the key and what was expected.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import os
import re
import tokenize
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

KINDS = ("lecture", "solution", "lab")
MANIFEST = "course.toml"


class CourseError(Exception):
    """A mistake of the user's, told in one line. `code` is the exit status: 2 for misuse, 1 for a failed course."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(" ".join(message.split("\n")))
        self.code = code


# --------------------------------------------------------------------------------------------------------- typed values


@dataclass(frozen=True)
class Profile:
    """A way to run the course: how many threads each kernel has, and how many notebooks run side by side."""

    name: str
    about: str
    threads: int
    jobs: int


@dataclass(frozen=True)
class Spec:
    """What `[topics.lecture]` or `[topics.solution]` says. Tables by profile; the key "" serves all profiles."""

    minutes: Mapping[str, float] = field(hash=False)
    memory_gb: Mapping[str, float] = field(hash=False)
    parameters: Mapping[str, Mapping[str, Any]] = field(hash=False)
    metrics: Mapping[str, Mapping[str, tuple[float, float]]] = field(hash=False)


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

    def bands(self, profile: str) -> dict[str, tuple[float, float] | None]:
        """Every metric that the notebook must record, and the closed band it must fall in (None: shown, not judged)."""
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

    def notebooks(self, kinds: Iterable[str] = ("lecture", "solution")) -> list[Notebook]:
        """Every notebook of these kinds, topic by topic."""
        kinds = tuple(kinds)
        return [Notebook(topic, kind, self.root) for topic in self.topics for kind in KINDS if kind in kinds]

    def profile(self, name: str) -> Profile:
        if name not in self.profiles:
            raise CourseError(f"unknown profile {name!r} ({_known(name, self.profiles)})")
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
                raise CourseError(f"no notebook {selector!r} in this course ({_known(selector, names)})")
            return found
        word = selector.lower()
        exact = [topic for topic in self.topics if word in (topic.name, str(topic.number), f"{topic.number:02d}")]
        topics = exact or [topic for topic in self.topics if word and not word.isdigit() and word in topic.name]
        if not topics:
            raise CourseError(f"no topic {selector!r} ({_known(word, [topic.name for topic in self.topics])})")
        if len(topics) > 1:
            names = [topic.name for topic in topics]
            raise CourseError(f"{selector!r} may be any of {', '.join(names)}: give the number")
        return [Notebook(topics[0], kind, self.root) for kind in KINDS if kind in kinds]


def _by_profile(values: Mapping[str, float], profile: str) -> float:
    return values.get(profile, values.get("cpu", values.get("", 0.0)))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one, if any does; a part of a name counts as its whole."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    words = {word: whole for whole in known for word in re.split(r"[_\W]+", whole) if len(word) > 2}
    close = difflib.get_close_matches(name, list(words), n=1, cutoff=0.6)
    return words[close[0]] if close else None


def _known(name: str, known: Iterable[str]) -> str:
    """`known: a, b; did you mean b?`"""
    known = list(known)
    close = nearest(name, known)
    return f"known: {', '.join(known) or 'none'}" + (f"; did you mean {close}?" if close else "")


# -------------------------------------------------------------------------------------------------- reading course.toml


def find_root(start: str | Path | None = None) -> Path:
    """The folder of the course: `start` if given, else COURSE_ROOT, else upward from here to the first course.toml."""
    given = start if start is not None else os.environ.get("COURSE_ROOT") or None
    if given is not None:
        root = Path(given).expanduser().absolute()
        if not (root / MANIFEST).is_file():
            said = "--root" if start is not None else "COURSE_ROOT"
            raise CourseError(f"no {MANIFEST} in {given} ({said} must name the folder of the course)")
        return Path(os.path.normpath(root))
    here = Path.cwd()
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
                    raise CourseError(f"{MANIFEST}: {self.at(key)}: unknown key ({_known(key, known)})")

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def wrong(self, expected: str, value: Any, key: str | None = None) -> NoReturn:
        place = self.place if key is None else self.at(key)
        got = json.dumps(value) if isinstance(value, bool) else repr(value)
        raise CourseError(f"{MANIFEST}: {place}: expected {expected}, got {_shortened(got)}")

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

    def band(self, key: str) -> tuple[float, float]:
        value = self.value[key]
        expected = "a band [low, high]"
        if not isinstance(value, list) or len(value) != 2 or not all(_is_number(bound) for bound in value):
            self.wrong(expected, value, key)
        if value[0] > value[1]:
            self.wrong(f"{expected} with low <= high", value, key)
        return float(value[0]), float(value[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def load(root: str | Path) -> Manifest:
    """Read `<root>/course.toml`. Whether the sources it names exist is for `build` and `check` to say."""
    root = Path(root)
    try:
        document = tomllib.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{MANIFEST}: not TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise CourseError(f"{MANIFEST}: expected UTF-8 text, got byte {error.start} that is none") from None
    except OSError as error:
        raise CourseError(f"{root / MANIFEST}: {error.strerror or error}") from None
    top = _Table(document, "", ("course", "profiles", "topics"))
    course = top.table("course", ("title", "repository", "tag", "data"))
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
    )


def _profiles(table: _Table) -> dict[str, Profile]:
    profiles = {}
    for name in table.value:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise CourseError(f"{MANIFEST}: {table.at(name)}: expected a name of lower-case letters and digits")
        profile = table.table(name, ("about", "threads", "jobs"))
        profiles[name] = Profile(name, profile.text("about"), profile.count("threads"), profile.count("jobs"))
    if "cpu" not in profiles:
        raise CourseError(f"{MANIFEST}: profiles.cpu: missing; expected a table (the notebooks' own values)")
    return profiles


def _topic(value: Any, place: str, profiles: tuple[str, ...]) -> Topic:
    table = _Table(value, place, ("name", "title", "about", "lecture", "solution"))
    name = table.text("name", "a name such as 01_convolution_arithmetic", r"[0-9]{2}_[a-z0-9_]+")
    return Topic(
        number=int(name[:2]),
        name=name,
        title=table.text("title"),
        about=table.text("about"),
        lecture=_spec(table, "lecture", profiles),
        solution=_spec(table, "solution", profiles),
    )


def _spec(topic: _Table, kind: str, profiles: tuple[str, ...]) -> Spec:
    table = topic.table(kind, ("minutes", "memory_gb", "parameters", "metrics"))
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
    )


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


# ---------------------------------------------------------------------------------------------- parameters of notebooks


class Text(str):
    """A value as typed at the command line: `resolve` reads it by the type of its parameter."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `epochs: int = 5  # [1, 200] passes over the training images`."""

    name: str
    type: str
    default: Any = field(hash=False)
    comment: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None

    @property
    def optional(self) -> bool:
        return self.type.endswith(" | None")

    @property
    def base(self) -> str:
        """The type of one value: `int` for `list[int] | None`."""
        return self.type.removesuffix(" | None").removeprefix("list[").removesuffix("]")

    @property
    def many(self) -> bool:
        return self.type.startswith("list[")

    @property
    def expected(self) -> str:
        """The type and the values it may take, in words: `int in [1, 200]`."""
        words = self.type
        if self.low is not None or self.high is not None:
            low = "" if self.low is None else f"{self.low:g}"
            high = "" if self.high is None else f"{self.high:g}"
            words += f" in [{low}, {high}]"
        if self.choices is not None:
            words += " in {" + ", ".join(str(choice) for choice in self.choices) + "}"
        return words


_BASES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_TYPE = re.compile(r"(int|float|str|bool|list\[(?:int|float|str|bool)\])( \| None)?")
_RANGE = re.compile(r"\[\s*([^,\[\]]*?)\s*,\s*([^,\[\]]*?)\s*\]\s*(.*)")
_CHOICES = re.compile(r"\{([^{}]*)\}\s*(.*)")
_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


def read_parameters(cells_source: str, where: str) -> dict[str, Parameter]:
    """The parameters of a parameters cell, in its order. `where` names the notebook in messages."""
    try:
        tree = ast.parse(cells_source)
        comments = {
            token.start[0]: token.string.lstrip("#").strip()
            for token in tokenize.generate_tokens(io.StringIO(cells_source).readline)
            if token.type == tokenize.COMMENT
        }
    except (SyntaxError, tokenize.TokenError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise CourseError(f"{where}: parameters cell{line}: expected Python, got {error.args[0]}") from None
    parameters: dict[str, Parameter] = {}
    for statement in tree.body:
        place = f"{where}: parameters cell, line {statement.lineno}"
        if (
            not isinstance(statement, ast.AnnAssign)
            or not isinstance(statement.target, ast.Name)
            or statement.value is None
        ):
            text = _shortened(ast.unparse(statement).split("\n")[0])
            raise CourseError(f"{place}: expected `name: type = value  # comment`, got `{text}`")
        name, annotation = statement.target.id, ast.unparse(statement.annotation)
        if name in parameters:
            raise CourseError(f"{place}: parameter {name} stands there twice")
        if not _TYPE.fullmatch(annotation):
            raise CourseError(
                f"{place}: parameter {name}: expected a type of int, float, str, bool, list[...] of these, "
                f"or one of them and `| None`, got {annotation}"
            )
        try:
            default = ast.literal_eval(statement.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            text = _shortened(ast.unparse(statement.value))
            raise CourseError(f"{place}: parameter {name}: expected a literal, got `{text}`") from None
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        comment = next((comments[line] for line in lines if line in comments), "")
        parameter = _with_limits(name, annotation, default, comment, place)
        parameters[name] = _replace_default(parameter, f"{place}: ")
    return parameters


def _with_limits(name: str, type_: str, default: Any, comment: str, place: str) -> Parameter:
    plain = Parameter(name, type_, default, comment)
    ranged, chosen = _RANGE.match(comment), _CHOICES.match(comment)
    if ranged:
        expected = "a range [low, high] of numbers at the start of the comment"
        if plain.base not in ("int", "float"):
            raise CourseError(f"{place}: parameter {name}: {expected} fits int and float only, not {type_}")
        bounds: list[float | None] = []
        for text in ranged.groups()[:2]:
            try:
                bounds.append(None if text == "" else float(text) if plain.base == "float" else int(text))
            except ValueError:
                raise CourseError(f"{place}: parameter {name}: expected {expected}, got {text!r}") from None
        low, high = bounds
        if low is not None and high is not None and not low <= high:
            raise CourseError(f"{place}: parameter {name}: expected {expected} with low <= high")
        return Parameter(name, type_, default, ranged[3], low, high)
    if chosen:
        if plain.base == "bool":
            raise CourseError(f"{place}: parameter {name}: {{...}} at the start of the comment does not fit a bool")
        try:
            choices = tuple(_BASES[plain.base](text.strip()) for text in chosen[1].split(",") if text.strip())
        except ValueError:
            raise CourseError(
                f"{place}: parameter {name}: expected {plain.base} values in {{...}}, got {chosen[1]!r}"
            ) from None
        return Parameter(name, type_, default, chosen[2], choices=choices)
    return plain


def _replace_default(parameter: Parameter, place: str) -> Parameter:
    default = validated(parameter, parameter.default, place)
    return Parameter(
        parameter.name,
        parameter.type,
        default,
        parameter.comment,
        parameter.low,
        parameter.high,
        parameter.choices,
    )


def validated(parameter: Parameter, value: Any, place: str = "") -> Any:
    """The value, an int made a float where the parameter is one. CourseError when it does not fit."""

    def one(part: Any) -> Any:
        kind = _BASES[parameter.base]
        if kind is float and type(part) is int and abs(part) < 2**53:
            part = float(part)
        fits = type(part) is kind and (not isinstance(part, float) or math.isfinite(part))
        if fits and parameter.low is not None:
            fits = part >= parameter.low
        if fits and parameter.high is not None:
            fits = part <= parameter.high
        if fits and parameter.choices is not None:
            fits = part in parameter.choices
        if not fits:
            raise CourseError(
                f"{place}parameter {parameter.name}: expected {parameter.expected}, got {_shortened(repr(value))}"
            )
        return part

    if value is None and parameter.optional:
        return None
    if parameter.many:
        if not isinstance(value, (list, tuple)):
            raise CourseError(
                f"{place}parameter {parameter.name}: expected {parameter.expected}, got {_shortened(repr(value))}"
            )
        return [one(part) for part in value]
    return one(value)


def parse_value(text: str, parameter: Parameter) -> Any:
    """A value typed at the command line (`-p name text`), by the type of its parameter.

    A bool is true / yes / on / 1 or false / no / off / 0; a list is `1,2,3` or `[1, 2, 3]`; `none` is None where the
    parameter may be None.
    """

    def one(part: str) -> Any:
        try:
            if parameter.base == "bool":
                return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[part.strip().lower()]
            return part if parameter.base == "str" else _BASES[parameter.base](part)
        except (KeyError, ValueError):
            raise CourseError(
                f"parameter {parameter.name}: expected {parameter.expected}, got {_shortened(repr(text))}"
            ) from None

    text = str(text)
    if parameter.optional and text.strip().lower() in _NONE and text not in (parameter.choices or ()):
        return None
    if not parameter.many:
        return validated(parameter, one(text))
    inside = text.strip()
    if inside.startswith("[") and inside.endswith("]"):
        inside = inside[1:-1]
        parts = [part.strip().strip("\"'") for part in inside.split(",")]
    else:
        parts = [part.strip() for part in inside.split(",")]
    if parts and parts[-1] == "":
        parts = parts[:-1]
    return validated(parameter, [one(part) for part in parts])


def read_notebook(path: str | Path, where: str | None = None) -> dict[str, Any]:
    """The notebook as JSON, with every cell's source joined to one string. CourseError when it is none."""
    where = where or str(path)
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"{where}: no such file (`course build` makes the notebooks from their sources)") from None
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{where}: expected a notebook in JSON, got: {error}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
        raise CourseError(f"{where}: expected a notebook (nbformat 4), got JSON without its cells")
    for cell in cells:
        source = cell.get("source", "")
        cell["source"] = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if not isinstance(cell.get("metadata", {}), dict):
            raise CourseError(f"{where}: expected a notebook (nbformat 4), got a cell whose metadata is no table")
        cell.setdefault("metadata", {})
    return notebook


def tags(cell: Mapping[str, Any]) -> list[str]:
    found = cell.get("metadata", {}).get("tags", [])
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def notebook_parameters(cells: list[dict[str, Any]], where: str) -> dict[str, Parameter]:
    """The parameters of the one cell tagged `parameters`; none without such a cell."""
    tagged = [cell for cell in cells if "parameters" in tags(cell)]
    if len(tagged) > 1:
        raise CourseError(f"{where}: expected one cell tagged parameters, got {len(tagged)}")
    return read_parameters(tagged[0]["source"], where) if tagged else {}


def unread(cells: list[dict[str, Any]], names: Iterable[str]) -> list[str]:
    """Those of the names that no code cell after the parameters cell reads before it sets them anew."""
    start = next((index for index, cell in enumerate(cells) if "parameters" in tags(cell)), -1)
    code = [cell["source"] for cell in cells[start + 1 :] if cell["cell_type"] == "code"]
    read: set[str] = set()
    for source in code:
        read |= names_read(source)
    return [name for name in names if name not in read]


@cache
def names_read(source: str) -> frozenset[str]:
    """Names that a code cell reads; lines for IPython (`%time`, `!ls`) are looked at as words."""
    try:
        nodes = python_nodes(source)
    except SyntaxError:
        return frozenset(re.findall(r"\w+", source))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {node.target.id for node in nodes if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)}
    magic = [line for line in source.split("\n") if _MAGIC_LINE.match(line)]
    return frozenset(read).union(re.findall(r"\w+", "\n".join(magic)))


@cache
def python_nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a code cell. The same cell often stands in several notebooks.

    Lines that start with `%` are IPython's only where the cell is no Python with them: they may continue a long remainder.

    Raises:
        SyntaxError: the cell is not Python.
    """
    try:
        return tuple(ast.walk(ast.parse(source)))
    except SyntaxError:
        if not any(_MAGIC_LINE.match(line) for line in source.split("\n")):
            raise
    return tuple(ast.walk(ast.parse(without_magics(source))))


def without_magics(source: str) -> str:
    """The cell with IPython's own lines blanked; a cell magic (`%%time`) blanks its line only."""
    return "\n".join("" if _MAGIC_LINE.match(line) else line for line in source.split("\n"))


_MAGIC_LINE = re.compile(r"\s*[%!?]")


def resolve(
    nb_path: str | Path,
    overrides: Mapping[str, Any],
    where: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The overrides, each held against the notebook's parameters: known, of the right type, in range, read later.

    Values of class `Text` (from the command line) are read by the parameter's type first. The parameters' own values
    are not in the result. A message names the origin of an override, where it has one.
    """
    where = where or str(nb_path)
    if not overrides:
        return {}
    cells = read_notebook(nb_path, where)["cells"]
    parameters = notebook_parameters(cells, where)
    resolved = {}
    at = {name: f"{where}: {origins[name]}" if origins and name in origins else where for name in overrides}
    for name, value in overrides.items():
        if name not in parameters:
            raise CourseError(f"{at[name]}: unknown parameter {name} ({_known(name, parameters)})")
        try:
            parameter = parameters[name]
            resolved[name] = parse_value(value, parameter) if isinstance(value, Text) else validated(parameter, value)
        except CourseError as error:
            raise CourseError(f"{at[name]}: {error}") from None
    for name in unread(cells, resolved):
        raise CourseError(f"{at[name]}: parameter {name}: no later cell reads it")
    return resolved
