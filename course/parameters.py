"""The parameters of notebooks: read from their cell, held against what a profile or the command line sets.

Standard library only. Every mistake is a `CourseError` of one line that names the notebook and the parameter.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course.errors import CourseError, known_names, shortened
from course.notebook import MAGIC_LINE, names_read, names_set, python_tree, read_notebook, tags


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
            low = "" if self.low is None else shortened(str(self.low))
            high = "" if self.high is None else shortened(str(self.high))
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
    except (RecursionError, MemoryError, ValueError) as error:
        raise CourseError(f"{where}: parameters cell: expected Python, got {error}") from None
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
            text = shortened(ast.unparse(statement).split("\n")[0])
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
            text = shortened(ast.unparse(statement.value))
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
                f"{place}parameter {parameter.name}: expected {parameter.expected}, got {shortened(repr(value))}"
            )
        return part

    if value is None and parameter.optional:
        return None
    if parameter.many:
        if not isinstance(value, (list, tuple)):
            raise CourseError(
                f"{place}parameter {parameter.name}: expected {parameter.expected}, got {shortened(repr(value))}"
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
                f"parameter {parameter.name}: expected {parameter.expected}, got {shortened(repr(text))}"
            ) from None

    text = str(text)
    if parameter.optional and text.strip().lower() in _NONE and text not in (parameter.choices or ()):
        return None
    if not parameter.many:
        return validated(parameter, one(text))
    return validated(parameter, [one(part) for part in _parts(text.strip())])


def _parts(text: str) -> list[str]:
    """The items of `a, b`, `[a, b]` and `["a, b", 'c']`; a last comma adds none."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare is not text:
        try:
            literal = ast.literal_eval(text)
            if all(isinstance(part, str) for part in literal):
                return literal
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass  # `[a, b]`
    parts = [part.strip() for part in next(csv.reader([bare], skipinitialspace=True), [])]
    if parts and parts[-1] == "":
        parts.pop()
    return [part.strip("\"'") for part in parts] if bare is not text else parts


def notebook_parameters(cells: list[dict[str, Any]], where: str) -> dict[str, Parameter]:
    """The parameters of the one cell tagged `parameters`; none without such a cell."""
    tagged = [cell for cell in cells if "parameters" in tags(cell)]
    if len(tagged) > 1:
        raise CourseError(f"{where}: expected one cell tagged parameters, got {len(tagged)}")
    return read_parameters(tagged[0]["source"], where) if tagged else {}


def unread(cells: list[dict[str, Any]], names: Iterable[str]) -> list[str]:
    """Those of the names that no code cell after the parameters cell reads before it sets them anew."""
    start = next((index for index, cell in enumerate(cells) if "parameters" in tags(cell)), -1)
    names = list(names)
    left, read = set(names), set[str]()
    for source in (cell["source"] for cell in cells[start + 1 :] if cell["cell_type"] == "code"):
        try:
            statements = python_tree(source).body
            words = " ".join(line[0] for line in MAGIC_LINE.finditer(source))
        except SyntaxError:
            statements, words = [], source
        read |= left & set(re.findall(r"\w+", words))
        for statement in statements:
            read |= left & names_read(statement)
            if not isinstance(statement, CONDITIONAL):
                left -= names_set(statement)
    return [name for name in names if name not in read]


# Statements whose parts may not run: what they set may still be what it was.
CONDITIONAL = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)


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
            raise CourseError(f"{at[name]}: unknown parameter {name} ({known_names(name, parameters)})")
        try:
            parameter = parameters[name]
            resolved[name] = parse_value(value, parameter) if isinstance(value, Text) else validated(parameter, value)
        except CourseError as error:
            raise CourseError(f"{at[name]}: {error}") from None
    for name in unread(cells, resolved):
        raise CourseError(f"{at[name]}: parameter {name}: no later cell reads it")
    return resolved
