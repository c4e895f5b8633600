"""What can be said about the notebooks without running them.

Each rule is a function from a page (one notebook and what stands around it) to its findings; `RULES` names them all. A
finding says where, which rule, and what to do.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from course import bands
from course.authoring.assemble import badge, checked_outputs, setup_cell, title
from course.authoring.build import build
from course.authoring.sources import TAGS, Source, WrongAnswer, read_course_source, read_source, read_wrong
from course.errors import CourseError, known_names, nearest
from course.files import write_atomically
from course.manifest import KINDS, MANIFEST, Manifest, Notebook
from course.notebook import CHECKED, WIDEST, first_words, python_nodes, python_tree, read_notebook, tags, typed_cells
from course.outcome import limits
from course.parameters import Parameter, notebook_parameters, unread, validated

LONGEST = 25
NUMBERS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
]
LAST_HEADINGS = ("Summary", "Exercises", "Further reading")
_MARKERS = re.compile(r"#.*\b(BEGIN|END) (SOLUTION|HIDDEN TESTS)\b")
_HIDDEN = re.compile(r"^\s*### BEGIN HIDDEN TESTS.*?^\s*### END HIDDEN TESTS[^\n]*$", re.MULTILINE | re.DOTALL)
_ANSWER = re.compile(r"^\s*### BEGIN SOLUTION[^\n]*\n(.*?)^\s*### END SOLUTION[^\n]*$", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^\s*(!|%%?(pip|conda|mamba|uv|bash|sh|script|system|sx|load|writefile)\b)", re.MULTILINE)

Spots = Iterator[tuple[int | None, str]]


@dataclass(frozen=True)
class Finding:
    file: str
    cell: str
    rule: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.cell}: " if self.cell else f"{self.file}: "
        return f"{place}{self.rule}: {self.message}"


class Page:
    """One built notebook, with the manifest, its source and the answers that its checks must catch."""

    def __init__(self, manifest: Manifest, notebook: Notebook, content: dict[str, Any], fresh: bool) -> None:
        self.manifest, self.notebook, self.content = manifest, notebook, content
        self.cells = typed_cells(content)
        self.raw: list[dict[str, Any]] = content["cells"]  # outputs and all
        self.lines: list[int] = self.source.lines if fresh else []

    @cached_property
    def source(self) -> Source:
        return read_course_source(self.notebook)

    @property
    def kind(self) -> str:
        return self.notebook.kind

    @cached_property
    def code(self) -> list[tuple[int, str]]:
        return [(cell.index, cell.source) for cell in self.cells if cell.type == "code"]

    @cached_property
    def nodes(self) -> list[tuple[int, tuple[ast.AST, ...]]]:
        """The nodes of each code cell that is Python, without its lines for IPython."""
        found = []
        for index, source in self.code:
            try:
                found.append((index, python_nodes(source)))
            except SyntaxError:
                continue
        return found

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """The markdown cells without code and formulas, in which brackets mean something else."""
        return [(cell.index, without_code(cell.source)) for cell in self.cells if cell.type == "markdown"]

    @cached_property
    def headings(self) -> list[tuple[int, int, str]]:
        """(cell, level, text) of every heading."""
        found = []
        for cell in self.cells:
            if cell.type == "markdown":
                for line in without_fences(cell.source).split("\n"):
                    heading = re.match(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$", line)
                    if heading and not _MARKERS.match(line):
                        found.append((cell.index, len(heading[1]), heading[2]))
        return found

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters, or none when their cell is wrong (which is a finding of its own)."""
        try:
            return notebook_parameters(self.raw, "")
        except CourseError:
            return {}

    @cached_property
    def wrong(self) -> list[WrongAnswer]:
        return read_wrong(self.notebook)

    def tagged(self, tag: str) -> list[int]:
        return [cell.index for cell in self.cells if tag in cell.tags]

    def named(self, role: str) -> list[tuple[int, str]]:
        """(cell, name) of the gaps, the checks or the questions."""
        return [(cell.index, cell.name) for cell in self.cells if cell.role == role]

    def place(self, index: int | None) -> str:
        if index is None:
            return ""
        cell = self.cells[index]
        place = f"cell {index + 1} [{cell.id or 'no id'}] {first_words(self.raw[index])}"
        if index < len(self.lines):
            place += f" ({self.notebook.relative_source}:{self.lines[index]})"
        return place


def without_fences(text: str) -> str:
    return re.sub(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1`*\s*?$", "", text, flags=re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    text = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", " ", without_fences(text), flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    return re.sub(r"(?<![\\$])\$(?!\s)[^$\n]+?(?<!\s)\$", " ", text)


# ------------------------------------------------------------------------------------------------------------ the rules


def ids(page: Page) -> Spots:
    seen: dict[str, int] = {}
    for cell in page.cells:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.id):
            got = f"got {page.raw[cell.index].get('id')!r}"
            yield cell.index, f"expected an id of 1 to 64 letters, digits, - and _, {got}: `course build` gives ids"
        elif cell.id in seen:
            yield cell.index, f"the id {cell.id} is that of cell {seen[cell.id] + 1}, too: `course build` gives ids"
        else:
            seen[cell.id] = cell.index


def outputs(page: Page) -> Spots:
    for index, _ in page.code:
        cell = page.raw[index]
        stored, count = cell.get("outputs"), cell.get("execution_count")
        if CHECKED not in tags(cell) or page.kind == "lab":
            if stored or count is not None:
                yield index, "holds outputs or an execution count: `course build` removes them"
        elif not checked_outputs(cell):
            yield index, f"tagged {CHECKED} but its output is not stored: `course test --update` stores it"
        elif count != 1 or len(stored or []) != 1:
            yield (
                index,
                "a checked cell has one stored text and execution_count 1: `course test --update` stores it anew",
            )


def tag_names(page: Page) -> Spots:
    for cell in page.cells:
        for tag in cell.tags:
            if tag not in TAGS:
                yield cell.index, f"unknown tag {tag!r} ({known_names(tag, TAGS)})"
            elif cell.type != "code" and not tag.startswith(("hide", "remove")):
                yield cell.index, f"the tag {tag} is for code cells"


def opening(page: Page) -> Spots:
    if not page.cells:
        yield None, "no cells"
        return
    first = page.cells[0]
    expected = title(page.notebook)
    if first.type != "markdown" or first.source.split("\n")[0] != expected:
        yield 0, f"expected the title `{expected}` in the first line (from course.toml)"
    if badge(page.manifest, page.notebook) not in first.source.split("\n"):
        yield (
            0,
            "expected the badge of course.toml's repository and tag under the title: `course check --fix` writes it",
        )
    start = page.tagged("setup")
    if len(start) != 1:
        yield None, f"expected one cell tagged setup, got {len(start)}: `course check --fix` writes it"
    for index in start[:1]:
        if page.cells[index].source != setup_cell(page.manifest):
            yield index, "differs from the set-up cell of course.toml: `course check --fix` rewrites it"
        if page.code and page.code[0][0] != index:
            yield page.code[0][0], "expected the set-up cell before any other code: move it up"
    second = [index for index, _ in page.code if index not in start][:1]
    if page.tagged("parameters") and second and page.tagged("parameters")[0] != second[0]:
        yield second[0], "expected the parameters cell right after the set-up cell: move it up"


def parameters(page: Page) -> Spots:
    found = page.tagged("parameters")
    if len(found) != 1:
        yield None, f"expected one cell tagged parameters, got {len(found)}"
        return
    try:
        known = notebook_parameters(page.raw, "")
    except CourseError as error:
        yield found[0], str(error).removeprefix(": ").removeprefix("parameters cell, ")
        return
    for name, parameter in known.items():
        if not parameter.comment:
            yield found[0], f"parameter {name}: expected a comment that says what it is"
    if page.kind != "lab":  # a lab may read a parameter in an answer or a hidden test only
        for name in unread(page.raw, known):
            yield found[0], f"parameter {name}: no later cell reads it: use it or remove it"


def gaps(page: Page) -> Spots:
    if page.kind != "solution":
        return
    checks: dict[str, list[int]] = {}
    for index, gap in page.named("check"):
        checks.setdefault(gap, []).append(index)
    for index, gap in page.named("gap"):
        if not checks.get(gap):
            yield index, f'gap {gap!r} has no check: add a cell `# %% check="{gap}" points=1`'
        elif not any(asserts(page.cells[check].source) for check in checks[gap]):
            yield checks[gap][0], f"gap {gap!r}: expected an assert that the student sees, outside the hidden tests"
    for index, gap in page.named("check"):
        if asserts(page.cells[index].source, hidden=True) is False:
            yield index, f"this check of gap {gap!r} asserts nothing: it can never fail"


def asserts(source: str, hidden: bool = False) -> bool:
    """Whether the check asserts something where the student sees it (or, with `hidden`, anywhere)."""
    try:
        nodes = python_nodes(source if hidden else _HIDDEN.sub("", source))
    except SyntaxError:
        return True
    for node in nodes:
        if isinstance(node, (ast.Assert, ast.Raise)):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1].startswith("assert"):
            return True
    return False


def answers(page: Page) -> Spots:
    """No marker in what students get, and no line of an answer in a lab."""
    if page.kind == "solution":
        return
    for cell in page.cells:
        marker = _MARKERS.search(cell.source)
        if marker:
            yield cell.index, f"holds `{marker[0].strip()}`, which belongs in solutions only: `course build` makes labs"
    if page.kind != "lab":
        return
    handed_out = {cell.id: cell.index for cell in page.cells}
    everything = "\n".join(cell.source for cell in page.cells)
    for solved in page.source.cells:
        name = solved["metadata"].get("gap") or solved["metadata"].get("question")
        for answer in _ANSWER.findall(solved["source"]):
            own = page.cells[handed_out[name]].source.split("\n") if name in handed_out else []
            lines = [line.strip() for line in answer.split("\n") if len(line.strip()) > 3]
            given = {line.strip() for line in _ANSWER.sub("", solved["source"]).split("\n")}
            leaked = [line for line in lines if line in {line.strip() for line in own} - given]
            if leaked:
                yield handed_out[name], f"holds a line of the answer, `{leaked[0]}`: `course build` makes labs"
            elif len(lines) > 1 and answer.strip() in everything:
                where = next((other.index for other in page.cells if answer.strip() in other.source), None)
                yield where, f"holds the answer to {name!r}: word it differently, or take it out"


def wrong_answers(page: Page) -> Spots:
    if page.kind != "solution":
        return
    where = f"sources/wrong/{page.notebook.stem}.py"
    right = {gap: (index, page.cells[index].source) for index, gap in page.named("gap")}
    graded = {gap for _, gap in page.named("check")}
    try:
        wrong = page.wrong
    except CourseError as error:
        yield None, str(error)
        return
    for answer in wrong:
        if answer.gap not in right:
            yield None, f"{where}:{answer.line}: no gap {answer.gap!r} ({known_names(answer.gap, right)})"
            continue
        try:
            same = ast.dump(python_tree(answer.source)) == ast.dump(python_tree(right[answer.gap][1]))
        except SyntaxError as error:
            yield None, f"{where}:{answer.line + (error.lineno or 0)}: expected Python, got {error.msg}"
            continue
        if same:
            yield None, f"{where}:{answer.line}: this answer to gap {answer.gap!r} is the right one"
    for gap, (index, _) in right.items():
        if gap in graded and gap not in {answer.gap for answer in wrong}:
            yield index, f"gap {gap!r}: expected a wrong answer that its checks catch, in {where}"


def heading_order(page: Page) -> Spots:
    before = 0
    for place, (index, level, text) in enumerate(page.headings):
        if level == 1 and place > 0:
            yield index, f"a second title `# {text}`: make it `## {text}`"
        elif level > before + 1:
            expected = "#" * (before + 1)
            yield index, f"`{'#' * level} {text}` skips a level: make it `{expected} {text}`"
        before = level
    sections = [text for _, level, text in page.headings if level == 2]
    for name in LAST_HEADINGS:
        if name not in sections:
            yield None, f"expected a section `## {name}` at the end"
    ending = [text for text in sections if text in LAST_HEADINGS]
    if len(ending) == len(set(ending)) == 3 and tuple(sections[-3:]) != LAST_HEADINGS:
        yield None, f"expected the last sections to be {', '.join(LAST_HEADINGS)}, got {', '.join(sections[-3:])}"
    for name in LAST_HEADINGS:
        if sections.count(name) > 1:
            yield None, f"expected one section `## {name}`, got {sections.count(name)}"


def counts(page: Page) -> Spots:
    """Points, gaps and questions that the text names are those that the cells have."""
    if page.kind == "lecture":
        return
    cells = page.cells
    totals = {
        "point": sum(cell.points for cell in cells),
        "gap": sum(cell.role == "gap" for cell in cells),
        "question": sum(cell.role == "question" for cell in cells),
    }
    said_of: dict[str, str] = {}  # the first time; "the first seven gaps" may follow
    for word, noun in re.findall(rf"\b(\d+|{'|'.join(NUMBERS)})\s+(point|gap|question)s?\b", cells[0].source.lower()):
        said_of.setdefault(noun, word)
    for noun, word in said_of.items():
        said = int(word) if word.isdigit() else NUMBERS.index(word)
        if said != totals[noun]:
            yield (
                0,
                f"says {word} {noun}{'s' if said != 1 else ''}, but the cells have {totals[noun]}: correct the text",
            )
    worth = [(index, re.search(r"\((\d+) points?\)", text), level) for index, level, text in page.headings]
    for place, (index, named, level) in enumerate(worth):
        if named:
            later = (other for other, again, depth in worth[place + 1 :] if other > index and (again or depth <= level))
            own = sum(cell.points for cell in cells[index : next(later, len(cells))])
            if own != int(named[1]):
                yield index, f"the heading says {named[0]}, but its cells have {own}: correct the text or the points"


def calibrated(page: Page) -> Spots:
    """A band is as wide as what the stored values of `course calibrate` carry, and no wider than what the metric can
    be.
    """
    if page.kind == "lab":
        return
    try:
        runs = bands.read_runs(page.notebook)
    except CourseError as error:
        yield None, str(error)
        return
    for profile in page.manifest.profiles:
        values = bands.values_of(runs, profile)
        for metric, band in page.notebook.bands(profile).items():
            span = page.manifest.range_of(metric)
            where = f"{profile}: {metric}: the band {limits(band)}" if band else ""
            if band and span and not span[0] <= band[0] <= band[1] <= span[1]:
                yield None, f"{where} leaves what the metric can be, {limits(span)} ([ranges] in {MANIFEST})"
            carried = bands.beyond(band, values[metric], span) if band and len(values.get(metric, ())) > 1 else None
            if carried:
                again = f"`course calibrate {page.notebook.id} --profile {profile} --write`"
                yield None, f"{where} is narrower than {len(values[metric])} seeds carry, {limits(carried)}: {again}"


def lengths(page: Page) -> Spots:
    for index, source in page.code:
        lines = len(source.split("\n"))
        if lines > LONGEST and page.cells[index].role != "setup":
            yield index, f"{lines} lines, at most {LONGEST}: split the cell, or move what is long to utils"


def widths(page: Page) -> Spots:
    for index, source in page.code:
        for number, line in enumerate(source.split("\n"), 1):
            if len(line) > WIDEST and page.cells[index].role != "setup":  # that one holds the repository's address
                wide = f"line {number}: code line of {len(line)} characters; the pages show {WIDEST}"
                yield index, f"{wide}: break it, or say it in fewer words"


def links(page: Page) -> Spots:
    folder = page.notebook.path.parent
    for index, text in page.prose:
        targets = re.findall(r"\]\(\s*<?([^()\s<>]*(?:\([^()\s]*\)[^()\s<>]*)*)", text)
        targets += re.findall(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$", text, re.MULTILINE)
        targets += re.findall(r"<(?:a|img)\b[^>]*?\b(?:href|src)\s*=\s*[\"']([^\"']*)", text)
        for target in targets:
            if target.startswith("attachment:"):
                yield index, f"{target}: pictures pasted into a notebook are not kept in its source: save it as a file"
                continue
            if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|#", target):
                continue
            name = unquote(target.split("#")[0].split("?")[0])
            if not name:
                yield index, "a link without a target"
            elif name.startswith("/") or not (folder / name).exists():
                yield index, f"no file {name!r} seen from {page.notebook.relative.split('/')[0]}/: correct the link"
            elif not (folder / name).resolve().is_relative_to(page.manifest.root.resolve()):
                yield index, f"{name!r} lies outside the course: link to a file of the course or to an address"


def pictures(page: Page) -> Spots:
    for index, text in page.prose:
        for words, target in re.findall(r"!\[([^\]]*)\]\(\s*([^)\s]*)", text):
            if not words.strip():
                yield index, f"the picture {target} has no alternative text: write `![what it shows]({target})`"
        for image in re.findall(r"<img\b[^>]*>", text):
            if not re.search(r"\balt\s*=\s*([\"'])\s*(?!\1)[^\s>]", image):
                yield index, f'{image} has no alternative text: add alt="what it shows"'


def python(page: Page) -> Spots:
    for index, source in page.code:
        if _SHELL.search(source):
            line = next(line.strip() for line in source.split("\n") if _SHELL.match(line))
            yield index, f"`{line}` runs a program or fetches something: notebooks are Python alone, without a network"
        try:
            python_nodes(source)
        except SyntaxError as error:
            yield index, f"line {error.lineno}: {error.msg}"


def thumbnail(page: Page) -> Spots:
    found = page.tagged("thumbnail")
    if page.kind != "lab" and len(found) != 1:
        yield (
            None,
            f'expected one cell with tags=["thumbnail"], whose picture stands for the notebook, got {len(found)}',
        )


def metrics(page: Page) -> Spots:
    """Metrics that are recorded by name are those that course.toml declares."""
    if page.kind == "lab":
        return
    declared = set(page.notebook.bands("cpu"))
    recorded: dict[str, int] = {}
    known = True
    for index, nodes in page.nodes:
        for node in nodes:
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("record", "results.record"):
                continue
            for keyword in node.keywords:
                if keyword.arg is None:
                    known = False
                else:
                    recorded.setdefault(keyword.arg, index)
    section = f"[topics.{page.kind}.metrics]"
    for name, index in recorded.items():
        if name not in declared:
            close = nearest(name, declared)
            hint = f" (did you mean {close}?)" if close else ""
            yield index, f"records {name}, which {section} of course.toml does not declare{hint}"
    text = "\n".join(source for _, source in page.code)
    for name in sorted(declared - set(recorded)):
        if known and not re.search(rf"\b{re.escape(name)}\b", text):
            yield None, f"course.toml declares the metric {name}, which no cell records"


# -------------------------------------------------------------------------------------------------------------- imports


def imports(page: Page) -> Spots:
    modules = Modules(page.manifest.root)
    bound: dict[str, str] = {}
    everything = [node for _, nodes in page.nodes for node in nodes]
    stored = {node.id for node in everything if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    stored |= {node.arg for node in everything if isinstance(node, ast.arg)}
    for index, nodes in page.nodes:
        excused = {id(inner) for node in nodes if _catches_import(node) for inner in ast.walk(node)}
        for node in nodes:
            if id(node) in excused:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    problem = modules.missing(alias.name)
                    if problem:
                        yield index, problem
                    elif alias.asname or "." not in alias.name:
                        bound[alias.asname or alias.name] = alias.name
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                problem = "relative imports do not work in a notebook" if node.level else modules.missing(module)
                if problem:
                    yield index, problem
                    continue
                for alias in node.names:
                    if alias.name != "*" and not modules.defines(module, alias.name):
                        yield index, f"{module} has no {alias.name}{modules.hint(module, alias.name)}"
                    elif modules.file(f"{module}.{alias.name}"):
                        bound[alias.asname or alias.name] = f"{module}.{alias.name}"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = node.value.id
                if name in bound and name not in stored and not modules.defines(bound[name], node.attr):
                    yield index, f"{bound[name]} has no {node.attr}{modules.hint(bound[name], node.attr)}"


def _catches_import(node: ast.AST) -> bool:
    if not isinstance(node, ast.Try):
        return False
    caught = " ".join(ast.unparse(handler.type) if handler.type else "ImportError" for handler in node.handlers)
    return "ImportError" in caught or "ModuleNotFoundError" in caught or "Exception" in caught


class Modules:
    """Which modules there are, without importing one. The course's own are looked into; of others only the top is."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def missing(self, name: str) -> str:
        """What is wrong with `import name`; empty when nothing is."""
        top = name.split(".")[0]
        if not self.own(top):
            if top in sys.stdlib_module_names or PathFinder.find_spec(top, [str(self.root), *sys.path]):
                return ""
            return f"no module {top!r} is installed: correct the name, or add it to the dependencies"
        parts = name.split(".")
        for length in range(2, len(parts) + 1):
            part = ".".join(parts[:length])
            if self.file(part) is None:
                return f"no module {part!r}{self.hint('.'.join(parts[: length - 1]), parts[length - 1])}"
        return ""

    def own(self, top: str) -> bool:
        return self.file(top) is not None

    def file(self, name: str) -> Path | None:
        """The file of one of the course's own modules."""
        key = (self.root, name)
        if key not in _FILES:
            _FILES[key] = self._find(name)
        return _FILES[key]

    def _find(self, name: str) -> Path | None:
        top, *rest = name.split(".")
        if not (self.root / top).is_dir() and top != "utils":
            return None
        spec = PathFinder.find_spec(top, [str(self.root)])
        if (spec is None or spec.origin is None) and top == "utils":
            spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            return None
        if not rest:
            return Path(spec.origin)
        base = Path(spec.origin).parent.joinpath(*rest)
        return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)

    def names(self, module: str) -> set[str] | None:
        """Names that one of the course's own modules defines; None when that cannot be told."""
        path = self.file(module)
        if path is None:
            return None
        key = (self.root, module)
        if key not in _NAMES:
            _NAMES[key] = None  # a module that imports itself in a circle
            _NAMES[key] = self._names(path, module)
        return _NAMES[key]

    def _names(self, path: Path, module: str) -> set[str] | None:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        found = {"__name__", "__doc__", "__file__"}
        if path.name == "__init__.py":
            found |= {child.stem for child in path.parent.glob("*.py")}
            found |= {child.name for child in path.parent.iterdir() if (child / "__init__.py").is_file()}
        for node in _module_level(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                found.add(node.name)
                if node.name == "__getattr__":
                    return None
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                if any(alias.name == "*" for alias in node.names):
                    return None
                found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            else:
                found |= {
                    inner.id
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load)
                }
        return found

    def defines(self, module: str, name: str) -> bool:
        names = self.names(module)
        return names is None or name in names

    def hint(self, module: str, name: str) -> str:
        close = nearest(name, sorted(self.names(module) or ()))
        return f": did you mean {close}?" if close else ": correct the name, or define it there"


_FILES: dict[tuple[Path, str], Path | None] = {}
_NAMES: dict[tuple[Path, str], set[str] | None] = {}


def _module_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Statements of the module itself, within `if` and `try` too, but not within functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While, ast.ExceptHandler)):
            yield from _module_level(node)
        yield node


RULES: dict[str, Callable[[Page], Spots]] = {
    "ids": ids,
    "outputs": outputs,
    "tags": tag_names,
    "opening": opening,
    "parameters": parameters,
    "gaps": gaps,
    "answers": answers,
    "wrong-answers": wrong_answers,
    "headings": heading_order,
    "counts": counts,
    "bands": calibrated,
    "length": lengths,
    "width": widths,
    "links": links,
    "pictures": pictures,
    "python": python,
    "imports": imports,
    "thumbnail": thumbnail,
    "metrics": metrics,
}


# ----------------------------------------------------------------------------------------------------- the whole course


def check(manifest: Manifest, notebooks: Sequence[Notebook] | None = None) -> tuple[list[Finding], str]:
    """Every finding on these notebooks (all, when none are given), and a line that sums up."""
    _FILES.clear()
    _NAMES.clear()
    chosen = list(notebooks) if notebooks is not None else manifest.notebooks(KINDS)
    findings: list[Finding] = []
    state = {built.relative: built for built in build(manifest, notebooks, check=True)}
    lines: list[int] = []
    said: set[str] = set()
    for built in state.values():
        if built.state in ("stale", "kept", "broken") and built.message not in said:
            said.add(built.message)
            file, _, message = built.message.partition(": ")
            findings.append(Finding(file, "", "source" if built.state == "broken" else "built", message))
    for notebook in chosen:
        if state[notebook.relative].state == "broken" or not notebook.path.exists():
            continue
        try:
            content = read_notebook(notebook.path, notebook.relative)
        except CourseError:
            continue  # `built` has said so
        page = Page(manifest, notebook, content, fresh=state[notebook.relative].state == "unchanged")
        for rule, look in RULES.items():
            try:
                findings += [Finding(notebook.relative, page.place(index), rule, text) for index, text in look(page)]
            except RecursionError:
                findings.append(
                    Finding(notebook.relative, "", rule, "something here is nested too deeply to be looked at")
                )
        findings += overrides(page)
        if notebook.kind != "lab":
            lines += [len(source.split("\n")) for index, source in page.code if page.cells[index].role != "setup"]
    return findings, _summary(len(chosen), len(findings), lines)


def _summary(notebooks: int, findings: int, lines: list[int]) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number or 'no'} {noun}" if number == 1 else f"{number or 'no'} {noun}s"

    summary = f"{count(notebooks, 'notebook')}, {count(findings, 'finding')}"
    if lines:
        summary += f" (code cells: median {statistics.median(lines):g} lines, longest {max(lines)})"
    return summary


def overrides(page: Page) -> list[Finding]:
    """What course.toml sets in each profile must be parameters of the notebook, of their type and in their range.

    The parameters that choose the data must be there too.
    """
    if page.kind == "lab":
        return []
    findings = []
    topics = [topic.name for topic in page.manifest.topics]
    for name in page.notebook.spec.data:
        if name not in page.parameters:
            key = f"topics[{topics.index(page.notebook.stem)}].{page.kind}.data"
            known = ", ".join(page.parameters) or "none"
            message = f"{page.notebook.relative} has no parameter {name} (known: {known})"
            findings.append(Finding(MANIFEST, key, "overrides", message))
    for profile, values in page.notebook.spec.parameters.items():
        for name, value in values.items():
            key = f"topics[{topics.index(page.notebook.stem)}].{page.kind}.parameters.{profile}.{name}"
            if name not in page.parameters:
                message = f"{page.notebook.relative} has no parameter {name} ({known_names(name, page.parameters)})"
                findings.append(Finding(MANIFEST, key, "overrides", message))
                continue
            try:
                validated(page.parameters[name], value)
            except CourseError as error:
                findings.append(Finding(MANIFEST, key, "overrides", str(error)))
    return findings


# --------------------------------------------------------------------------------------------------------------- fixing


def fix(manifest: Manifest, notebooks: Sequence[Notebook]) -> list[str]:
    """Rewrite badge and set-up cell in the sources of these notebooks, and build those anew. What was done, in lines.

    A source that is missing or broken is left alone: `check` tells what is wrong with it.
    """
    done = []
    for notebook in notebooks:
        if notebook.kind == "lab":
            continue
        try:
            source = read_source(notebook.source, notebook.relative_source)
            text = notebook.source.read_text(encoding="utf-8")
            fixed = _with_setup(_with_badge(text, source, badge(manifest, notebook)), source, setup_cell(manifest))
        except CourseError:
            continue
        if fixed == text:
            continue
        write_atomically(notebook.source, fixed, manifest.root)
        kinds = ("lecture",) if notebook.kind == "lecture" else ("solution", "lab")
        again = build(manifest, [Notebook(notebook.topic, kind, manifest.root) for kind in kinds])
        names = [built.relative for built in again if built.state == "written"]
        done.append(
            f"rewrote badge and set-up cell of {notebook.relative_source}"
            + (f", and built {' and '.join(names)} anew" if names else "")
        )
    return done


def _with_badge(text: str, source: Source, line: str) -> str:
    lines = text.split("\n")
    end = source.lines[1] - 1 if len(source.lines) > 1 else len(lines)
    for number in range(source.lines[0], end):
        if "colab-badge.svg" in lines[number]:
            lines[number] = f"# {line}"
            return "\n".join(lines)
    if source.cells[0]["cell_type"] != "markdown":
        raise CourseError(f"{source.where}:{source.lines[0]}: expected a markdown cell with the title first")
    # This line shifts those that follow, so the set-up cell is looked for anew by its header.
    lines.insert(source.lines[0] + 1, f"# {line}")
    return "\n".join(lines)


def _with_setup(text: str, source: Source, setup: str) -> str:
    lines = text.split("\n")
    headers = [number for number, line in enumerate(lines) if re.match(r"#\s*%%(\s|$)", line)]
    tagged = [index for index, cell in enumerate(source.cells) if "setup" in tags(cell)]
    if not tagged:
        at = headers[1] if len(headers) > 1 else len(lines)
        return "\n".join([*lines[:at], '# %% tags=["setup"]', *setup.split("\n"), "", *lines[at:]])
    start = headers[tagged[0]] + 1
    end = headers[tagged[0] + 1] if tagged[0] + 1 < len(headers) else len(lines)
    blank = end
    while blank > start and not lines[blank - 1].strip():
        blank -= 1
    return "\n".join([*lines[:start], *setup.split("\n"), *(lines[blank:end] or [""]), *lines[end:]])
