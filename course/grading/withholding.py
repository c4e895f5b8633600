"""The functions of `utils` that a lab asks its students to do without: at the submission's side they are taken away.

Taken away is what the checks of one gap alone use (the reference that they compare with; what several gaps' checks use
is a tool that measures, and stays), and what has the name of a gap's function; unless the given cells or the solution's
answers need it, themselves or through other functions of `utils`. Taken away is also what the lab itself lists as not
to be called, `checks.own_work(..., of=segmentation, names={...})`, unless the solution's answers need it. All of this
is read from the files; nothing is imported.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from course.grading import plan
from course.grading.release import Release

Place = tuple[str, str]  # a file below `utils`, and a function or class in it
TOOLS = {("transfer.py", "predict")}  # used by one gap's checks, and yet no answer to it
COMPARISONS = "checks.py"  # what checks compare with is nobody's answer


def withheld(release: Release, utilities: Path) -> dict[str, list[str]]:
    """For each file below `utilities`, the functions to take away in this lab."""
    package = _Package(utilities)
    written = [node for cell in release.cells if cell.type == "code" for node in plan.statements(cell.source)]
    imports = package.imports(written)
    asked = {name for gap in release.gaps for name in gap.defines}
    users: dict[Place, set[str]] = {}
    for check in release.checks:
        for place in package.named(plan.statements(check.source), imports) - TOOLS:
            if place[0] != COMPARISONS:
                users.setdefault(place, set()).add(check.gap)
    candidates = {place for place, gaps in users.items() if len(gaps) == 1}
    candidates |= {place for place in package.functions if place[1] in asked} - TOOLS

    def needed(sources: list[str]) -> set[Place]:
        return package.reached({p for source in sources for p in package.named(plan.statements(source), imports)})

    taken = (candidates & package.functions) - needed(release.supporting())
    # What a check alone needs is no reason to leave to answers what the lab forbids.
    taken |= (package.listed(written, imports) & package.functions) - needed(release.answering())
    found: dict[str, list[str]] = {}
    for path, name in sorted(taken):
        found.setdefault(path, []).append(name)
    return found


def _strings(node: ast.expr | None) -> set[str]:
    values = node.elts if isinstance(node, ast.Set) else []
    return {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}


def _named(node: ast.expr) -> str:
    """`own_work` of `checks.own_work`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def copy_without(source: Path, target: Path, taken: Mapping[str, Iterable[str]]) -> None:
    """Copy `utils` without the bodies of some functions: each raises an error that says why."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name, functions in taken.items():
        path = target / name
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in reversed(ast.parse(text).body):
            if isinstance(node, ast.FunctionDef) and node.name in set(functions):
                indent = " " * node.body[0].col_offset
                words = f"utils has {node.name} too, but the grader takes it away: this lab asks you to do without it"
                lines[node.body[0].lineno - 1 : node.end_lineno] = [f"{indent}raise NotImplementedError({words!r})"]
        path.write_text("\n".join(lines), encoding="utf-8")


class _Package:
    """Which function of a package may call which, by the names in its files."""

    def __init__(self, root: Path) -> None:
        self._trees = {
            path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
            for path in sorted(root.rglob("*.py"))
        }
        self._definitions: dict[Place, ast.stmt] = {
            (path, node.name): node
            for path, tree in self._trees.items()
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        self._imports = {path: self.imports(ast.walk(tree)) for path, tree in self._trees.items()}

    @property
    def functions(self) -> set[Place]:
        return {place for place, node in self._definitions.items() if isinstance(node, ast.FunctionDef)}

    @staticmethod
    def imports(nodes: Iterable[ast.AST]) -> dict[str, str]:
        """For each name that is imported from `utils`, what it is: `arithmetic` -> `utils.arithmetic`."""
        found = {}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "utils":
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == "utils":
                        found[alias.asname or "utils"] = alias.name if alias.asname else "utils"
        return found

    def _file(self, module: str) -> str | None:
        parts = module.split(".")[1:]
        named = ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"]))
        return next((path for path in named if path in self._trees), None)

    def _resolve(self, dotted: str, seen: frozenset[str] = frozenset()) -> set[Place]:
        """The function or class behind `utils.arithmetic.conv2d`, through what packages import; none for a module."""
        module, _, name = dotted.rpartition(".")
        path = self._file(module) if module and dotted not in seen else None
        if path is None:
            return set()
        if (path, name) in self._definitions:
            return {(path, name)}
        further = self._imports[path].get(name)
        return self._resolve(further, seen | {dotted}) if further is not None else set()

    def named(self, nodes: Iterable[ast.AST], imports: Mapping[str, str], path: str = "") -> set[Place]:
        """The functions and classes of the package that some code names."""
        found = set[Place]()
        for node in (part for whole in nodes for part in ast.walk(whole)):
            if isinstance(node, ast.Name):
                if (path, node.id) in self._definitions:
                    found.add((path, node.id))
                elif node.id in imports:
                    found |= self._resolve(imports[node.id])
            elif isinstance(node, ast.Attribute):
                dotted = ".".join(reversed(list(_chain(node))))
                first, _, rest = dotted.partition(".")
                if first in imports and rest:
                    found |= self._resolve(f"{imports[first]}.{rest}")
        return found

    def listed(self, written: Iterable[ast.stmt], imports: Mapping[str, str]) -> set[Place]:
        """What a lab gives to `own_work` as a set of names of a package: written in the call, or assigned to a name."""
        sets: dict[str, set[str]] = {}
        found = set[Place]()
        for node in (part for statement in written for part in ast.walk(statement)):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Set):
                sets |= {target.id: _strings(node.value) for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.Call) and any(_named(part) == "own_work" for part in (node.func, *node.args[:1])):
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                names, of = given.get("names"), given.get("of")
                listed = sets.get(names.id, set()) if isinstance(names, ast.Name) else _strings(names)
                module = imports.get(of.id, "utils") if isinstance(of, ast.Name) else "utils"
                folder = "/".join(module.split(".")[1:])
                inside = (f"{folder}/", f"{folder}.py") if folder else ("",)
                found |= {place for place in self._definitions if place[0].startswith(inside) and place[1] in listed}
        return found

    def reached(self, start: set[Place]) -> set[Place]:
        """Everything that these may call. What stands at the top of a file runs at import, and counts as called."""
        waiting = set(start)
        for path, tree in self._trees.items():
            loose = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
            waiting |= self.named(loose, self._imports[path], path)
        reached = set[Place]()
        while waiting:
            place = waiting.pop()
            if place not in reached:
                reached.add(place)
                waiting |= self.named([self._definitions[place]], self._imports[place[0]], place[0])
        return reached


def _chain(node: ast.AST) -> Iterator[str]:
    """The names of `a.b.c`, from the last; nothing sensible for anything else."""
    while isinstance(node, ast.Attribute):
        yield node.attr
        node = node.value
    yield node.id if isinstance(node, ast.Name) else ""
