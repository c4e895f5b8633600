"""Which statements of a notebook each side of the grader has to run.

The judge needs what its checks read, the submission's side what its answers read; neither needs the pictures. A
statement is kept when it binds a name that something kept reads, or when it may change such a thing in place. Too much
is kept rather than too little.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from course.notebook import names_set, python_tree

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
# Names of what a call may change, and of calls that may change whatever they get.
_CHANGEABLE = re.compile(r"model|net|detector|classifier|optimizer|generator|rng|random")
_CHANGING = re.compile(r"fit|train|learn|compile|adapt|update|fill")


@dataclass(frozen=True)
class Reads:
    """Global names that a statement reads: `now`, while it runs, and `later`, when a function that it defines is
    called.
    """

    now: frozenset[str]
    later: frozenset[str]


@cache
def reads(source: str) -> Reads:
    """What one statement reads."""
    now, later = set[str](), set[str]()
    waiting = [(symtable.symtable(source, "", "exec"), True)]
    while waiting:
        table, at_once = waiting.pop()
        whole = table.get_type() == "module"
        found = {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (whole or symbol.is_global())
        }
        (now if at_once else later).update(found)
        for child in table.get_children():
            runs = child.get_type() == "class" or child.get_name() in ("listcomp", "setcomp", "dictcomp", "genexpr")
            waiting.append((child, at_once and runs))
    return Reads(frozenset(now), frozenset(later))


@cache
def names_in(source: str) -> frozenset[str]:
    """Global names that a cell reads before it has bound them itself, functions' bodies included; none for what is no
    Python.
    """
    try:
        body = statements(source)
    except SyntaxError:
        return frozenset()
    known, found = set[str](), set[str]()
    for statement in body:
        read = reads(ast.unparse(statement))
        found |= (read.now | read.later) - known
        known |= bound([statement])
    return frozenset(found)


def bound(nodes: Iterable[ast.stmt]) -> set[str]:
    """Global names that statements bind."""
    return {name for node in nodes for name in names_set(node)}


def statements(source: str) -> list[ast.stmt]:
    """The statements of a cell, IPython's own lines left out. SyntaxError for what is no Python."""
    return python_tree(source).body


def functions(source: str) -> list[str]:
    return [node.name for node in statements(source) if isinstance(node, ast.FunctionDef)]


def kept(cells: Sequence[tuple[int, str, bool]]) -> dict[int, str]:
    """For each given cell the source of those statements that must run, so that the cells that run whole find what they
    read.

    Args:
        cells: (number, source, whether it runs whole), in the notebook's order.
    """
    parsed = [(number, source, statements(source), whole) for number, source, whole in cells]
    imports = [node for _, _, body, _ in parsed for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    shown = SHOWING | {
        (alias.asname or alias.name).partition(".")[0]
        for node in imports
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).startswith(("utils.plots", "matplotlib"))
    }
    modules = bound(imports)
    later: set[str] = set()  # what kept functions read whenever they are called: needed everywhere
    while True:
        before, live, chosen = set(later), set[str](), dict[int, list[str]]()
        for number, source, body, whole in reversed(parsed):
            lines, texts = source.split("\n"), list[str]()
            for statement in reversed(body):
                if whole or _is_needed(statement, live | later, shown, modules):
                    read = reads(ast.unparse(statement))
                    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)):
                        live -= bound([statement])
                    live |= read.now
                    later |= read.later
                    texts.append(_text(lines, statement))
            if not whole:
                chosen[number] = texts[::-1]
        if later == before:
            return {number: "\n".join(chosen[number]) for number in sorted(chosen)}


def _text(lines: list[str], statement: ast.stmt) -> str:
    first = min([statement.lineno, *(node.lineno for node in getattr(statement, "decorator_list", []))])
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _is_needed(statement: ast.stmt, needed: set[str], shown: frozenset[str], modules: set[str]) -> bool:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return True
    draws = isinstance(statement, (ast.For, ast.With)) and reads(ast.unparse(statement)).now & shown
    if not draws and bound([statement]) & (needed - shown):
        return True
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return False
    alone = statement.value if isinstance(statement, ast.Expr) else None
    return any(_changes(node, needed, shown, modules, node is alone) for node in ast.walk(statement))


def _changes(node: ast.AST, needed: set[str], shown: frozenset[str], modules: set[str], alone: bool = False) -> bool:
    """Whether a part of a statement may change something needed in place; `alone` says of a call that nobody takes its
    result, so that it is there for what it changes.
    """
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
    if last == "at":  # numpy.add.at
        return bool(arguments)
    if (
        isinstance(function, ast.Name) or root in modules
    ):  # arrays that come in stay as they are, a model may be trained
        if alone or _CHANGING.search(last):
            return bool(arguments)
        return not hasattr(builtins, root) and any(_CHANGEABLE.search(name) for name in arguments)
    return root in needed and last not in READING


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
