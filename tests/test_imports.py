"""Who imports whom, read from the files: `course` and `utils` know nothing of each other, and inside `utils` an import
runs down.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = {"tensorflow", "tensorflow_datasets", "jax", "jaxlib", "torch", "keras"}

# The floors of `utils`, from the ground up. An import goes to a lower floor, or along its own without a circle.
FLOORS = [
    {"startup", "boxes", "checks", "labels", "models", "results"},
    {"layers", "training", "plots", "session"},
    {"data"},
    {"architectures", "arithmetic", "introspection", "pretrained"},
    {"backbones"},
    {"detection", "generative", "reinforcement", "segmentation", "sequence", "transfer"},
]


def python_files(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path, package=""):
    """Absolute names of all that a file imports, wherever the import stands; relative ones are resolved."""
    names = set()
    within = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(within[: len(within) - node.level]) if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(str(node.args[0].value))
    return names


def top(name):
    return name.partition(".")[0]


def floor_of(module):
    found = [level for level, modules in enumerate(FLOORS) if module in modules]
    assert found, f"utils.{module} has no floor yet: give it one here and in the design"
    return found[0]


@pytest.mark.parametrize("path", python_files("course"), ids=lambda path: str(path.relative_to(ROOT)))
def test_course_imports_neither_utils_nor_a_backend(path):
    """But for what is started inside a sandbox, which nothing outside imports."""
    inside = path.is_relative_to(ROOT / "course/grading/inside")
    allowed = {"keras", "tensorflow"} if inside else set()
    assert {top(name) for name in imported(path)} & ({"utils"} | BACKENDS) <= allowed
    assert inside or not {name for name in imported(path) if name.startswith("course.grading.inside")}


@pytest.mark.parametrize("path", python_files("utils"), ids=lambda path: str(path.relative_to(ROOT)))
def test_utils_imports_no_course_and_only_data_and_session_import_tensorflow(path):
    packages = {top(name) for name in imported(path)}
    assert "course" not in packages
    module = path.relative_to(ROOT / "utils").with_suffix("").parts[0]
    # `session` tells the device, in each backend's own words.
    allowed = {"data": {"keras", "tensorflow", "tensorflow_datasets"}, "session": BACKENDS}.get(module, {"keras"})
    assert packages & BACKENDS <= allowed


def is_module(name):
    return (ROOT / "utils" / f"{name}.py").is_file() or (ROOT / "utils" / name).is_dir()


def edges():
    """(importing module, imported module) between the modules and packages right below `utils`."""
    found = set()
    for path in python_files("utils"):
        module = path.relative_to(ROOT / "utils").with_suffix("").parts[0]
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "utils" and len(parts) > 1 and parts[1] != module and is_module(parts[1]):
                found.add((module, parts[1]))
    return sorted(found)


def test_an_import_inside_utils_never_runs_up():
    for module, other in edges():
        if module != "__init__":
            assert floor_of(other) <= floor_of(module), f"utils.{module} imports utils.{other}, which stands above it"


def test_imports_along_a_floor_of_utils_make_no_circle():
    pending = {}
    for module, other in edges():
        pending.setdefault(module, set()).add(other)
    while pending:
        free = {module for module, others in pending.items() if not others & set(pending)}
        assert free, f"these import each other: {', '.join(sorted(pending))}"
        pending = {module: others for module, others in pending.items() if module not in free}


def test_importing_utils_imports_no_backend():
    for name in ("__init__", "startup"):
        assert not {top(name) for name in imported(ROOT / "utils" / f"{name}.py")} & BACKENDS


def test_every_module_of_utils_has_a_floor():
    for path in python_files("utils"):
        module = path.relative_to(ROOT / "utils").with_suffix("").parts[0]
        if module != "__init__":
            floor_of(module)


def test_the_command_line_imports_nothing_heavy_until_it_is_used():
    heavy = [
        "papermill",
        "nbformat",
        "nbclient",
        "jupytext",
        "nbconvert",
        "pytest",
        "jupyter_client",
        "psutil",
        "numpy",
    ]
    code = f"import sys, course.cli; print(*[name for name in {heavy + sorted(BACKENDS)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


# `course`: rooms stand on the modules of the bottom. `execution` shows its progress by `reporting.progress` and
# `reporting.junit`, which know nothing of it; `reporting.calibrate` runs notebooks, and stands beside `proving`.
BOTTOM = {"errors", "files", "manifest", "notebook", "parameters", "outcome", "bands", "backend"}
COURSE = {
    "authoring": {"authoring"},
    "reporting": {"reporting"},
    "execution": {"execution", "reporting"},
    "proving": {"authoring", "execution", "proving", "reporting"},
    "grading": {"execution", "grading"},
    "reporting.calibrate": {"execution", "reporting"},
}


def parts_of_course(path):
    """The modules of `course` that a file imports, as `room` or as a module of the bottom."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("course.")}


@pytest.mark.parametrize("path", python_files("course"), ids=lambda path: str(path.relative_to(ROOT)))
def test_an_import_inside_course_runs_down_to_the_bottom(path):
    within = path.relative_to(ROOT / "course").with_suffix("").parts
    if len(within) == 1 and within[0] not in BOTTOM:  # cli, doctor: they know everything
        return
    allowed = BOTTOM | (COURSE.get(".".join(within[:2]), COURSE.get(within[0], set())) if len(within) > 1 else set())
    assert parts_of_course(path) <= allowed
