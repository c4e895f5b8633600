"""Which statements of a notebook each side of the grader has to run.

The judge needs what its checks read, the submission's side what its answers read; neither needs the pictures. A statement is kept when
it binds a name that something kept reads, or when it may change such a thing in place. Too much is kept rather than too little.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import cache

from course.notebook import python_nodes, without_magics

SHOWING = frozenset({"plots", "plt", "print", "record", "results", "ax", "axes", "figure", "display"})
STARTING = frozenset({"start", "set_random_seed"})  # calls without a result that must not be left out
# Methods that change nothing of what they are called on.
READING = frozenset(
    [
        "predict",
        "predict_on_batch",
        "get_weights",
        "get_layer",
        "numpy",
        "describe",
        "mean",
        "sum",
        "min",
        "max",
        "argmax",
        "astype",
        "copy",
        "reshape",
        "items",
        "keys",
        "values",
        "split",
        "strip",
        "count_params",
        "tolist",
        "any",
        "all",
        "index",
        "format",
    ]
)


@cache
def names_in(source: str) -> frozenset[str]:
    """Every name that the source reads, functions' bodies included; none for what is no Python."""
    try:
        nodes = python_nodes(source)
    except SyntaxError:
        return frozenset()
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name))


def bound(nodes: Iterable[ast.stmt]) -> set[str]:
    """Global names that statements bind."""
    names: set[str] = set()
    waiting: list[ast.AST] = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            names.update(part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr))
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return names


def statements(source: str) -> list[ast.stmt]:
    """The statements of a cell, IPython's own lines left out. SyntaxError for what is no Python."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return ast.parse(without_magics(source)).body


def functions(source: str) -> list[str]:
    return [node.name for node in statements(source) if isinstance(node, ast.FunctionDef)]


def kept(cells: Sequence[tuple[int, str]], roots: Iterable[str]) -> dict[int, str]:
    """For each cell, by its number, the source of those statements that must run so that the root names have their values."""
    needed, chosen = set(roots), {number: set[int]() for number, _ in cells}
    parsed = {number: statements(source) for number, source in cells}
    shown = SHOWING | {
        (alias.asname or alias.name).partition(".")[0]
        for body in parsed.values()
        for node in body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).startswith(("utils.plots", "matplotlib"))
    }
    growing = True
    while (
        growing
    ):  # a statement kept for a later one may need an earlier one, and the other way round through a function
        growing = False
        for number, body in parsed.items():
            for place, statement in enumerate(body):
                if place not in chosen[number] and _is_needed(statement, needed, shown):
                    chosen[number].add(place)
                    needed |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                    growing = True
    lines = {number: source.split("\n") for number, source in cells}
    return {
        number: "\n".join(_text(lines[number], body[place]) for place in sorted(chosen[number]))
        for number, body in parsed.items()
    }


def _text(lines: list[str], statement: ast.stmt) -> str:
    first = min([statement.lineno, *(node.lineno for node in getattr(statement, "decorator_list", []))])
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _is_needed(statement: ast.stmt, needed: set[str], shown: frozenset[str]) -> bool:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return True
    if bound([statement]) & needed:
        return True
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return False
    return any(_changes(node, needed, shown) for node in ast.walk(statement))


def _changes(node: ast.AST, needed: set[str], shown: frozenset[str]) -> bool:
    """Whether a part of a statement may change something needed in place."""
    if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        return _root(node) in needed - shown
    if isinstance(node, ast.AugAssign):
        return _root(node.target) in needed - shown
    if not isinstance(node, ast.Call):
        return False
    function, root = node.func, _root(node.func)
    last = function.attr if isinstance(function, ast.Attribute) else root
    if last in STARTING:
        return True
    if root in shown:
        return False
    arguments = {_root(part) for part in [*node.args, *(keyword.value for keyword in node.keywords)]} & (needed - shown)
    if isinstance(function, ast.Name) or last == "at":  # a function of the notebook's own; numpy.add.at
        return bool(arguments) and root not in dir(__builtins__)
    return root in needed and last not in READING and root not in ("np", "ops", "keras", "layers")


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
