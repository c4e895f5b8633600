"""From sources to notebooks: exact cells, the same bytes everywhere, nothing half-written, and back from JupyterLab."""

import copy
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

from course.authoring import assemble, sources
from course.authoring.assemble import cell_id, checksum, make_notebook, setup_cell, store_outputs
from course.authoring.build import build
from course.authoring.sources import KEYS, read_course_source, read_wrong
from course.errors import CourseError
from course.manifest import KINDS, load
from course.notebook import WIDEST, read_notebook

REPOSITORY = Path(__file__).parents[2]


def cells(root, name):
    return read_notebook(root / name)["cells"]


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob("*/*.ipynb"))
    }


def states(root, **options):
    return {built.relative: built.state for built in build(load(root), **options)}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# -------------------------------------------------------------------------------------------------------- what is built


def test_a_lecture_holds_its_source_cell_by_cell(mini):
    source = read_course_source(load(mini).select(["01/lecture"])[0])
    built = cells(mini, "lectures/01_addition.ipynb")
    assert [(cell["cell_type"], cell["source"]) for cell in built] == [
        (cell["cell_type"], cell["source"]) for cell in source.cells
    ]
    assert built[2]["source"].startswith("repeats: int = 10")
    assert built[2]["metadata"] == {"tags": ["parameters"]}


def test_every_notebook_is_valid_and_says_its_language(mini):
    for path in sorted(mini.glob("*/*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook, relax_add_props=False)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert notebook.metadata == {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }


def test_the_layout_is_that_of_nbformat(mini):
    """So that a file saved by JupyterLab differs in what was changed only."""
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "two – größer ½ – numbers")
    states(mini)
    text = (mini / "lectures" / "01_addition.ipynb").read_text(encoding="utf-8")
    assert "größer ½" in text
    assert text == nbformat.writes(nbformat.reads(text, as_version=4)) + "\n"


def test_ids_come_from_type_and_text():
    assert cell_id("code", "x = 1") == hashlib.sha256(b"codex = 1").hexdigest()[:12]
    equal = [{"cell_type": "code", "metadata": {}, "source": "x"} for _ in range(3)]
    assemble._give_ids(equal)
    first = hashlib.sha256(b"codex").hexdigest()[:12]
    assert [cell["id"] for cell in equal] == [first, f"{first}-2", f"{first}-3"]


def test_ids_stay_when_other_cells_change(mini):
    before = [cell["id"] for cell in cells(mini, "solutions/01_addition.ipynb")]
    edit(mini / "sources/solutions/01_addition.py", "You can add.", "You can add two numbers.")
    states(mini)
    after = [cell["id"] for cell in cells(mini, "solutions/01_addition.ipynb")]
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


def test_graded_cells_have_the_names_of_their_gaps(mini):
    ids = [cell["id"] for cell in cells(mini, "labs/01_addition.ipynb") if "nbgrader" in cell["metadata"]]
    assert ids == ["add", "add-check", "double", "double-check", "order"]


def test_a_lab_has_stubs_for_answers_and_no_hidden_tests(mini):
    lab = {cell["id"]: cell["source"] for cell in cells(mini, "labs/01_addition.ipynb")}
    assert lab["add"] == 'def add(a, b):\n    raise NotImplementedError("return the sum of a and b")'
    assert lab["add-check"] == 'assert add(2, 3) == 5, "two and three make five"'
    assert lab["order"] == "*Your answer here.*"
    everything = (mini / "labs/01_addition.ipynb").read_text()
    assert not any(word in everything for word in ("BEGIN", "END ", "a + b", "-number", "commutative"))


def test_blank_lines_before_hidden_tests_go_with_them(mini):
    edit(mini / "sources/solutions/01_addition.py", "### BEGIN HIDDEN TESTS", "\n### BEGIN HIDDEN TESTS")
    states(mini)
    lab = {cell["id"]: cell["source"] for cell in cells(mini, "labs/01_addition.ipynb")}
    assert lab["add-check"] == 'assert add(2, 3) == 5, "two and three make five"'


def test_a_lab_has_its_own_title_and_badge(mini):
    first = cells(mini, "labs/01_addition.ipynb")[0]["source"].split("\n")
    assert first[0] == "# 01 Addition: lab"
    assert first[1].endswith("(https://colab.research.google.com/github/example/mini/blob/v1/labs/01_addition.ipynb)")


def test_a_lab_differs_from_its_solution_in_answers_only(mini):
    lab, solution = (cells(mini, f"{kind}s/01_addition.ipynb") for kind in ("lab", "solution"))
    differing = [one["id"] for one, other in zip(lab, solution, strict=True) if one["source"] != other["source"]]
    assert differing == [lab[0]["id"], "add", "add-check", "double", "order"]


STUBS = [
    ('stub="say \\"so\\""', 'raise NotImplementedError("say \\"so\\"")'),
    ('stub="a \\\\ b"', 'raise NotImplementedError("a \\\\ b")'),
    ('stub="größer als ½"', 'raise NotImplementedError("größer als ½")'),
    (f'stub="{"a" * 55}"', f'raise NotImplementedError("{"a" * 55}")'),  # 88 characters with its indent
    (f'stub="{"a" * 56}"', f'raise NotImplementedError(\n        "{"a" * 56}"\n    )'),
    (
        f'stub="{"a" * 50} {"b" * 26} {"c" * 3} \\"d\\""',
        f'raise NotImplementedError(\n        "{"a" * 50} {"b" * 26} "\n        "{"c" * 3} \\"d\\""\n    )',
    ),
]


@pytest.mark.parametrize(("header", "line"), STUBS)
def test_the_words_of_a_stub_survive(mini, header, line):
    edit(mini / "sources/solutions/01_addition.py", 'stub="return twice a"', header)
    states(mini)
    lab = {cell["id"]: cell["source"] for cell in cells(mini, "labs/01_addition.ipynb")}
    assert lab["double"] == f"def double(a):\n    {line}"
    words = next(cell for cell in cells(mini, "labs/01_addition.ipynb") if cell["id"] == "double")["metadata"]["stub"]
    with pytest.raises(NotImplementedError) as error:
        exec(lab["double"] + "\ndouble(1)", {})
    assert str(error.value) == words


def test_several_answers_and_given_code_in_one_gap(mini):
    edit(
        mini / "sources/solutions/01_addition.py",
        "    ### BEGIN SOLUTION\n    return add(a, a)\n    ### END SOLUTION",
        "    ### BEGIN SOLUTION\n    b = a\n    ### END SOLUTION\n    given = 1\n"
        "    if given:\n        ### BEGIN SOLUTION\n        return add(a, b)\n        ### END SOLUTION",
    )
    states(mini)
    stub = 'raise NotImplementedError("return twice a")'
    lab = {cell["id"]: cell["source"] for cell in cells(mini, "labs/01_addition.ipynb")}
    assert lab["double"] == f"def double(a):\n    {stub}\n    given = 1\n    if given:\n        {stub}"


def test_a_second_check_of_a_gap(mini):
    edit(
        mini / "sources/solutions/01_addition.py",
        "# %% [markdown]\n# ## 3.",
        '# %% check="add" points=0.5\nassert add(0, 0) == 0\n\n# %% [markdown]\n# ## 3.',
    )
    states(mini)
    cell = next(cell for cell in cells(mini, "labs/01_addition.ipynb") if cell["id"] == "add-check-2")
    assert cell["metadata"]["nbgrader"]["points"] == 0.5
    assert cell["metadata"]["nbgrader"]["grade_id"] == "add-check-2"


# ------------------------------------------------------------------------------------------------------------- nbgrader


def grading(root, name):
    found = [cell["metadata"].get("nbgrader") for cell in cells(root, name)]
    return {entry["grade_id"]: entry for entry in found if entry}


def test_nbgrader_metadata_is_exact(mini):
    plain = {"schema_version": 3, "task": False, "cell_type": "code"}
    assert grading(mini, "solutions/01_addition.ipynb") == {
        "add": {**plain, "grade_id": "add", "grade": False, "solution": True, "locked": False},
        "add-check": {**plain, "grade_id": "add-check", "grade": True, "solution": False, "locked": True, "points": 2},
        "double": {**plain, "grade_id": "double", "grade": False, "solution": True, "locked": False},
        "double-check": {
            **plain,
            "grade_id": "double-check",
            "grade": True,
            "solution": False,
            "locked": True,
            "points": 1,
        },
        "order": {
            **plain,
            "cell_type": "markdown",
            "grade_id": "order",
            "grade": True,
            "solution": True,
            "locked": False,
            "points": 1,
        },
    }
    assert grading(mini, "lectures/01_addition.ipynb") == {}


def test_checksums_of_a_lab_are_those_of_nbgrader(mini):
    """The values were computed by nbgrader 0.9.6 (`nbgrader.utils.compute_checksum`) on these cells."""
    assert {name: entry["checksum"] for name, entry in grading(mini, "labs/01_addition.ipynb").items()} == {
        "add": "d1a6516bf7d4156f62c3d6646b0b00f3",
        "add-check": "2e7d812e8bf607267ebd49fde4af6d77",
        "double": "f6e8845d4b99bf8cf35c9932c5ba38ac",
        "double-check": "620c057b8945123884880427fc23a127",
        "order": "f69adbba2269f0e6dfad12683a203fe9",
    }


def test_a_checksum_sees_every_part():
    base = {"grade": True, "solution": False, "locked": True, "grade_id": "a", "points": 1}
    variants = [("code", "x", base), ("markdown", "x", base), ("code", "y", base)]
    variants += [
        ("code", "x", {**base, key: value}) for key, value in (("grade_id", "b"), ("points", 2), ("solution", True))
    ]
    assert len({checksum(*variant) for variant in variants}) == len(variants)
    assert checksum("code", "x", {**base, "points": 1.0}) == checksum("code", "x", base)


def test_nbgrader_itself_reads_a_lab(mini):
    nbgrader_format = pytest.importorskip("nbgrader.nbgraderformat", reason="nbgrader is an extra")
    from nbgrader.utils import compute_checksum

    notebook = nbgrader_format.read(str(mini / "labs/01_addition.ipynb"), as_version=4)
    graded = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert len(graded) == 5
    assert all(compute_checksum(cell) == cell.metadata.nbgrader["checksum"] for cell in graded)


# ---------------------------------------------------------------------------------------------------------- determinism


def test_a_second_build_changes_nothing(mini):
    before = digests(mini)
    times = {path: path.stat().st_mtime_ns for path in mini.glob("*/*.ipynb")}
    assert set(states(mini).values()) == {"unchanged"}
    assert digests(mini) == before
    assert {path: path.stat().st_mtime_ns for path in mini.glob("*/*.ipynb")} == times


def test_the_order_does_not_matter(mini):
    before = digests(mini)
    manifest = load(mini)
    outputs = cells(mini, "lectures/01_addition.ipynb")
    text = {cell["id"]: "3\n" for cell in outputs if cell["cell_type"] == "code" and cell["outputs"]}
    for folder in ("lectures", "solutions", "labs"):
        shutil.rmtree(mini / folder)
    for selector in ("01/lab", "01/lecture", "01/solution"):
        build(manifest, manifest.select([selector]))
    store_outputs(manifest.select(["01/lecture"])[0], text)
    assert digests(mini) == before


@pytest.mark.parametrize(
    "environment", [{"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"}, {"PYTHONUTF8": "0"}]
)
def test_another_machine_gives_the_same_bytes(mini, tmp_path, environment):
    before = digests(mini)
    edit(mini / "sources/lectures/01_addition.py", "What happens", "What – happens")
    edit(mini / "sources/lectures/01_addition.py", "What – happens", "What happens")
    for folder in ("solutions", "labs"):
        shutil.rmtree(mini / folder)
    done = subprocess.run(
        [sys.executable, "-m", "course", "--root", str(mini), "build"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert digests(mini) == before


def test_line_ends_of_another_system_do_not_matter(mini):
    before = digests(mini)
    for path in mini.glob("sources/*/*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    states(mini)
    assert digests(mini) == before


# -------------------------------------------------------------------------------------- what is kept of jupytext's work


def kept(root):
    return root / "build/cache/sources/lectures-01_addition.json"


def built_alone(root, *, jupytext=True):
    """Build in a process of its own, without jupytext if so asked."""
    code = (
        "import sys\n"
        + ("" if jupytext else "sys.modules['jupytext'] = None\n")
        + "from course.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code, "--root", str(root), "build", "01/lecture"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_an_unchanged_source_needs_no_jupytext(mini):
    before = digests(mini)
    (mini / "lectures/01_addition.ipynb").unlink()
    assert built_alone(mini, jupytext=False).returncode == 0
    assert [cell["source"] for cell in cells(mini, "lectures/01_addition.ipynb")][4] == "print(2 + 1)"
    assert digests(mini).keys() == before.keys()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"key": "of another text", "cells": []}'),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_what_is_kept_is_taken_for_its_own_text_only(mini, damage):
    before = digests(mini)
    damage(kept(mini))
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "three numbers")
    assert built_alone(mini).stdout.startswith("wrote lectures/01_addition.ipynb")
    edit(mini / "sources/lectures/01_addition.py", "three numbers", "two numbers")
    assert built_alone(mini).returncode == 0
    assert digests(mini) == before


def test_another_jupytext_reads_anew(mini, monkeypatch):
    monkeypatch.setattr(sources, "_READ", {})
    monkeypatch.setattr(sources, "version", lambda name: "0.0")
    monkeypatch.setattr(sources, "write_atomically", lambda path, text: written.append(path))
    written = []
    read_course_source(load(mini).select(["01/lecture"])[0])
    assert written == [kept(mini)]


# -------------------------------------------------------------------------------------------------------- build --check


def stale(root):
    return [built.message for built in build(load(root), check=True) if built.state == "stale"]


def test_check_finds_nothing_in_a_built_course_and_writes_nothing(mini):
    assert stale(mini) == []
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "three numbers")
    before = digests(mini)
    assert stale(mini) == [
        'lectures/01_addition.ipynb: cell 1 ("# 01 Addition") differs from its source: put what is to stay into '
        "sources/lectures/01_addition.py, then `course build`"
    ]
    assert digests(mini) == before


def changed(root, name, change):
    notebook = json.loads((root / name).read_text())
    change(notebook)
    (root / name).write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n")


HAND_EDITS = [
    (
        lambda notebook: notebook["cells"][2].update(
            outputs=[{"output_type": "stream", "name": "stdout", "text": ["x"]}]
        ),
        "cell 3 (",
        "holds outputs",
    ),
    (
        lambda notebook: notebook["cells"][4]["metadata"]["nbgrader"].update(points=9),
        "cell 5 (",
        "another id or metadata",
    ),
    (lambda notebook: notebook["cells"][4].update(id="other"), "cell 5 (", "another id or metadata"),
    (lambda notebook: notebook["cells"].pop(), "13 cells where its source has 14"[:8], "cells where its source has"),
    (lambda notebook: notebook["metadata"].update(x=1), "written by another program", "layout or notebook metadata"),
]


# What a person may have done in a lab, the last three as other programs would.
WORK = [
    lambda cells: cells[4].update(source=["def add(a, b):\n", "    return a + b"]),
    lambda cells: cells[0]["source"].append("\n\nMy name: A. Student"),
    lambda cells: cells.insert(
        5, {"cell_type": "code", "id": "x1", "metadata": {}, "outputs": [], "source": ["add(1, 2)"]}
    ),
    lambda cells: [cell.pop("id") for cell in cells] and cells[4].update(source=["pass"]),
    lambda cells: cells[4]["metadata"].update(nbgrader={"checksum": 1}),
    lambda cells: cells[4].update(metadata={}),
]


@pytest.mark.parametrize("change", WORK)
def test_a_lab_in_which_somebody_has_worked_is_kept(mini, change):
    changed(mini, "labs/01_addition.ipynb", lambda notebook: change(notebook["cells"]))
    before = digests(mini)
    [message] = [built.message for built in build(load(mini)) if built.state != "unchanged"]
    assert re.match(r"labs/01_addition\.ipynb: cell \d+ \(.*\) is not as it was handed out", message)
    assert digests(mini) == before


@pytest.mark.parametrize(("change", "where", "what"), HAND_EDITS)
def test_a_lab_that_differs_by_no_work_is_named_and_built_anew(mini, change, where, what):
    before = digests(mini)
    changed(mini, "labs/01_addition.ipynb", change)
    [message] = stale(mini)
    assert message.startswith("labs/01_addition.ipynb: ")
    assert what in message
    assert "`course build`" in message
    assert states(mini)["labs/01_addition.ipynb"] == "written"
    assert digests(mini) == before


def test_a_missing_or_damaged_notebook(mini):
    before = digests(mini)
    (mini / "labs/01_addition.ipynb").unlink()
    (mini / "solutions/01_addition.ipynb").write_text("{")
    assert stale(mini) == [
        "solutions/01_addition.ipynb: not a notebook: `course build` makes it anew "
        "from sources/solutions/01_addition.py",
        "labs/01_addition.ipynb: missing: `course build` makes it anew from sources/solutions/01_addition.py",
    ]
    states(mini)
    assert digests(mini) == before


def test_a_source_that_is_gone_leaves_its_notebook_stale(mini):
    (mini / "sources/lectures/01_addition.py").unlink()
    [message] = stale(mini)
    assert message.startswith("lectures/01_addition.ipynb: its source sources/lectures/01_addition.py is gone: ")
    assert (mini / "lectures/01_addition.ipynb").exists()


def test_a_source_that_is_missing_from_the_start(mini):
    (mini / "sources/lectures/01_addition.py").unlink()
    (mini / "lectures/01_addition.ipynb").unlink()
    [broken] = [built for built in build(load(mini)) if built.state == "broken"]
    assert broken.message == "sources/lectures/01_addition.py: no such file, but course.toml names it"


def test_files_that_no_topic_names_are_told(mini):
    for name in ("labs/02_old.ipynb", "sources/lectures/02_old.py", "sources/wrong/03_x.py"):
        (mini / name).write_text("")
    (mini / "labs/.hidden.ipynb").write_text("")
    assert [message.split(": ")[0] for message in stale(mini)] == [
        "labs/02_old.ipynb",
        "sources/lectures/02_old.py",
        "sources/wrong/03_x.py",
    ]
    assert stale(mini)[0] == (
        "labs/02_old.ipynb: course.toml has no topic '02_old' (its source is gone): "
        "move your own copy to work/, or delete it, or name its topic in course.toml"
    )


# ------------------------------------------------------------------------------------------------------ checked outputs


def checked_cell(root):
    return next(
        cell for cell in cells(root, "lectures/01_addition.ipynb") if "nbval-check-output" in str(cell["metadata"])
    )


def test_a_checked_output_is_kept_while_its_cell_is_unchanged(mini):
    expected = [{"name": "stdout", "output_type": "stream", "text": ["3\n"]}]
    edit(mini / "sources/lectures/01_addition.py", "Adding is repeated counting.", "Adding is counting on.")
    states(mini)
    assert checked_cell(mini)["outputs"] == expected
    assert checked_cell(mini)["execution_count"] == 1
    edit(mini / "sources/lectures/01_addition.py", "print(2 + 1)", "print(2 + 2)")
    states(mini)
    assert checked_cell(mini)["outputs"] == []
    assert checked_cell(mini)["execution_count"] is None


def test_an_output_of_another_text_is_not_kept(mini):
    """JupyterLab keeps the id of a cell that it has edited, so the id alone does not tell whose output it is."""

    def rewrite(notebook):
        notebook["cells"][4].update(
            source=["print(2 + 2)"], outputs=[{**notebook["cells"][4]["outputs"][0], "text": ["4\n"]}]
        )

    changed(mini, "lectures/01_addition.ipynb", rewrite)
    states(mini)
    assert checked_cell(mini)["source"] == "print(2 + 1)"
    assert checked_cell(mini)["outputs"] == []


def test_of_a_checked_cell_only_the_printed_text_is_kept(mini):
    def fill(notebook):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["execution_count"] = 12
                cell["outputs"] = [
                    {"output_type": "stream", "name": "stderr", "text": ["warning\n"]},
                    {"output_type": "stream", "name": "stdout", "text": ["3"]},
                    {"output_type": "stream", "name": "stdout", "text": "\n"},
                    {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}},
                ]

    before = digests(mini)
    changed(mini, "lectures/01_addition.ipynb", fill)
    states(mini)
    assert digests(mini) == before


def test_outputs_are_stored_by_cell(mini):
    lecture = load(mini).select(["01/lecture"])[0]
    assert store_outputs(lecture, {checked_cell(mini)["id"]: "four\n", "unknown": "x"})
    assert checked_cell(mini)["outputs"][0]["text"] == ["four\n"]
    assert not store_outputs(lecture, {checked_cell(mini)["id"]: "four\n"})
    other = next(cell["id"] for cell in cells(mini, "lectures/01_addition.ipynb") if "total" in cell["source"])
    assert not store_outputs(lecture, {other: "x"})


def test_a_lab_carries_no_output(mini):
    edit(
        mini / "sources/solutions/01_addition.py",
        '# %% tags=["thumbnail"]',
        '# %% tags=["thumbnail", "nbval-check-output"]',
    )
    states(mini)
    manifest = load(mini)
    for selector in ("01/solution", "01/lab"):
        notebook = manifest.select([selector])[0]
        cell = next(cell for cell in cells(mini, notebook.relative) if "nbval-check-output" in str(cell["metadata"]))
        store_outputs(notebook, {cell["id"]: "x\n"})
    stored = [cell.get("outputs") for cell in cells(mini, "solutions/01_addition.ipynb")]
    assert [{"name": "stdout", "output_type": "stream", "text": ["x\n"]}] in stored
    assert not any(cell.get("outputs") for cell in cells(mini, "labs/01_addition.ipynb"))


# ------------------------------------------------------------------------------------------------------- broken sources

SOLUTION = "    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION"
BROKEN = [
    ("    ### END SOLUTION\n", "", "BEGIN SOLUTION: expected END SOLUTION before the cell ends"),
    ("    ### BEGIN SOLUTION\n", "", "END SOLUTION without its BEGIN SOLUTION"),
    ("    return a + b\n", "    ### BEGIN SOLUTION\n", "BEGIN SOLUTION within another: expected END SOLUTION of line"),
    (SOLUTION, "    return a + b", "gap 'add': expected its answer between ### BEGIN SOLUTION and ### END SOLUTION"),
    ("### END SOLUTION", "### END HIDDEN TESTS", "END HIDDEN TESTS in a cell without check=... in its header"),
    (
        "### BEGIN SOLUTION",
        "## BEGIN SOLUTION",
        "expected `### BEGIN SOLUTION` or its like alone, got `## BEGIN SOLUTION`",
    ),
    ("### BEGIN SOLUTION", "### BEGIN SOLUTION:", "expected `### BEGIN SOLUTION` or its like alone"),
    ("### BEGIN SOLUTION", "### begin solution", "expected `### BEGIN SOLUTION` or its like alone"),
    ("most: int = 5", "### BEGIN SOLUTION\nmost: int = 5", "BEGIN SOLUTION in a cell without gap=... or question=..."),
    ("### END HIDDEN TESTS", "", "BEGIN HIDDEN TESTS: expected END HIDDEN TESTS before the cell ends"),
    (' stub="return twice a"', "", "gap 'double': expected stub=\"what to write\", which the lab shows in its place"),
    (' stub="return twice a"', ' stub=" "', "gap 'double': expected stub="),
    (' stub="return twice a"', " stub=3", "gap 'double': expected stub="),
    ('gap="double"', 'gap="add"', "expected a name of its own, got 'add' as in line"),
    ('question="order"', 'question="add-check"', "expected a name of its own, got 'add-check' as in line"),
    ('gap="double"', 'gap="Double it"', 'expected gap="a-name" of at most 48 small letters, digits and hyphens'),
    ('gap="double"', "gap=2", 'expected gap="a-name" of at most 48 small letters, digits and hyphens, got gap=2'),
    (
        'check="double"',
        'check="duoble"',
        "no gap 'duoble' above this check (known: add, double; did you mean double?)",
    ),
    ('gap="add" stub', 'gap="plus" stub', "no gap 'add' above this check (known: plus)"),
    (" points=2", "", "expected points=NUMBER above 0, got none"),
    (" points=2", " points=0", "expected points=NUMBER above 0, got 0"),
    (" points=2", ' points="2"', 'expected points=NUMBER above 0, got "2"'),
    (" points=2", " points=true", "expected points=NUMBER above 0, got true"),
    (
        " points=2",
        " pionts=2",
        "unknown key in the header: pionts=2 (known: tags, gap, stub, check, points, question, slide; did you",
    ),
    ('tags=["parameters"]', 'tags="parameters"', 'expected tags=["..."], got tags="parameters"'),
    ('tags=["parameters"]', "points=2", "points goes with check or question"),
    ('tags=["parameters"]', 'stub="x"', "stub goes with gap"),
    ('tags=["parameters"]', "parameters", "unknown key in the header"),
    ('tags=["parameters"]', 'slide="skip"', "slide is for lectures: a solution has no slides"),
    ('gap="add" stub', 'gap="add" check="add" stub', "expected one of gap, check and question, got gap and check"),
    ("[markdown] question", "question", "a question is a markdown cell"),
    ('# %% gap="add"', '# %% [markdown] gap="add"', "a gap is a code cell"),
    ('# %% check="double"', '# %% [markdown] check="double"', "a check is a code cell"),
    ("# %% [markdown]\n# ## 2.", "# %% [raw]\n# ## 2.", "expected a code or [markdown] cell, got [raw]"),
    (
        "# %% [markdown]\n# # 01",
        "x = 1\n# %% [markdown]\n# # 01",
        "expected the header of a cell (`# %%` or `# %% [markdown]`)",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=[f"{number}" for number in range(len(BROKEN))])
def test_a_broken_source_is_one_line_with_its_place(mini, old, new, message):
    before = digests(mini)
    path = mini / "sources/solutions/01_addition.py"
    edit(path, old, new)
    results = [built for built in build(load(mini)) if built.state == "broken"]
    assert [built.relative for built in results] == ["solutions/01_addition.ipynb", "labs/01_addition.ipynb"]
    [said] = {built.message for built in results}
    assert message in said
    assert "\n" not in said
    where, number, _ = said.split(":", 2)
    assert where == "sources/solutions/01_addition.py"
    assert 1 <= int(number) <= len(path.read_text().split("\n"))
    assert digests(mini) == before


def test_the_line_is_that_of_the_marker(mini):
    path = mini / "sources/solutions/01_addition.py"
    lines = path.read_text().split("\n")
    begin = lines.index("    ### BEGIN SOLUTION") + 1
    edit(path, "    ### END SOLUTION\n", "")
    with pytest.raises(CourseError, match=rf"01_addition.py:{begin}: BEGIN SOLUTION"):
        read_course_source(load(mini).select(["01/solution"])[0])


def test_a_broken_source_does_not_stop_the_others(mini):
    edit(mini / "sources/solutions/01_addition.py", ' stub="return twice a"', "")
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "three numbers")
    assert states(mini) == {
        "lectures/01_addition.ipynb": "written",
        "solutions/01_addition.ipynb": "broken",
        "labs/01_addition.ipynb": "broken",
    }


def test_a_lecture_has_no_gaps(mini):
    edit(mini / "sources/lectures/01_addition.py", "# %%\ntotal", '# %% gap="x" stub="y"\ntotal')
    with pytest.raises(CourseError, match="a lecture has no gap: gaps, checks and questions stand in solutions"):
        read_course_source(load(mini).select(["01/lecture"])[0])


def test_a_word_for_the_slides_is_one_of_four(mini):
    path = mini / "sources/lectures/01_addition.py"
    edit(path, "# %%\ntotal", '# %% slide="fragment"\ntotal')
    assert states(mini)["lectures/01_addition.ipynb"] == "written"
    assert {"slide": "fragment"} in [cell["metadata"] for cell in cells(mini, "lectures/01_addition.ipynb")]
    edit(path, 'slide="fragment"', 'slide="fragments"')
    expected = 'expected slide="..." with one of slide, subslide, fragment, skip, got slide="fragments"'
    with pytest.raises(CourseError, match=re.escape(expected)):
        read_course_source(load(mini).select(["01/lecture"])[0])


def test_a_cell_header_within_a_text_is_told(mini):
    edit(mini / "sources/lectures/01_addition.py", "# %%\ntotal", '# %%\ntext = """\n# %% no cell\n"""\ntotal')
    built = {result.relative: result for result in build(load(mini))}
    assert built["lectures/01_addition.ipynb"].state == "broken"
    assert "is there such a line within a text?" in built["lectures/01_addition.ipynb"].message


def test_an_empty_source_and_one_that_is_no_text(mini):
    (mini / "sources/lectures/01_addition.py").write_text("")
    (mini / "sources/solutions/01_addition.py").write_bytes(b"# %%\nx = '\xff'\n")
    messages = [built.message for built in build(load(mini)) if built.state == "broken"]
    assert (
        messages[0] == "sources/lectures/01_addition.py:1: expected the header of a cell (`# %%` or `# %% [markdown]`)"
    )
    assert messages[1] == "sources/solutions/01_addition.py: expected UTF-8 text, got byte 10 that is none"


def test_wrong_answers_are_read_with_their_lines(mini):
    answers = read_wrong(load(mini).select(["01/solution"])[0])
    assert [(answer.gap, answer.why) for answer in answers] == [
        ("add", "subtracts"),
        ("add", "right for the visible case only"),
        ("double", "squares, which is twice only at two"),
    ]
    assert answers[1].source == "def add(a, b):\n    return 5"
    assert (
        (mini / "sources/wrong/01_addition.py")
        .read_text()
        .split("\n")[answers[2].line - 1]
        .startswith('# %% gap="double"')
    )
    edit(mini / "sources/wrong/01_addition.py", ' why="subtracts"', "")
    with pytest.raises(CourseError, match=r'sources/wrong/01_addition.py:1: expected `# %% gap="..." why="..."`'):
        read_wrong(load(mini).select(["01/solution"])[0])
    (mini / "sources/wrong/01_addition.py").unlink()
    assert read_wrong(load(mini).select(["01/solution"])[0]) == []


# ------------------------------------------------------------------------------------------------- nothing half-written


@pytest.mark.parametrize("step", ["chmod", "replace"])
def test_a_full_disk_leaves_the_old_notebook(mini, monkeypatch, step):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = digests(mini)
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "three numbers")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(CourseError) as error:
        build(load(mini))
    assert str(error.value) == "lectures/01_addition.ipynb: cannot be written: No space left on device"
    assert digests(mini) == before
    assert list(mini.glob("**/*.part")) == []


def test_a_folder_in_place_of_a_notebook(mini):
    (mini / "labs/01_addition.ipynb").unlink()
    (mini / "labs/01_addition.ipynb").mkdir()
    [broken] = [built.message for built in build(load(mini)) if built.state == "broken"]
    assert broken.startswith("labs/01_addition.ipynb: Is a directory")


# ------------------------------------------------------------------------------------------- the way through JupyterLab


@pytest.fixture
def contents(mini):
    """JupyterLab's own way to files: jupytext's contents manager, on the mini course with this repository's pairing."""
    jupytext = pytest.importorskip("jupytext")
    shutil.copy(REPOSITORY / "pyproject.toml", mini / "pyproject.toml")
    manager = jupytext.TextFileContentsManager()
    manager.root_dir = str(mini)
    return manager


def set_ages(mini, kind, source):
    ages = {"older": (100, 50), "newer": (50, 100)}[source]
    now = (mini / "pyproject.toml").stat().st_mtime
    for path, age in zip((f"sources/{kind}s/01_addition.py", f"{kind}s/01_addition.ipynb"), ages, strict=True):
        os.utime(mini / path, (now - age, now - age))


def run_every_cell(content):
    for number, cell in enumerate(content["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = number + 7
            cell["outputs"] = [nbformat.v4.new_output("stream", name="stdout", text="3\n")]
    content["metadata"]["language_info"] = {"name": "python", "version": "3.11.7", "file_extension": ".py"}
    content["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}


@pytest.mark.parametrize("source", ["older", "newer"])
@pytest.mark.parametrize("kind", ["lecture", "solution"])
def test_opening_and_saving_in_jupyterlab_updates_the_source(mini, contents, kind, source):
    path, notebook = mini / f"sources/{kind}s/01_addition.py", f"{kind}s/01_addition.ipynb"
    before = path.read_text()
    set_ages(mini, kind, source)

    model = contents.get(notebook, type="notebook", content=True)
    run_every_cell(model["content"])
    contents.save(copy.deepcopy(model), notebook)
    assert path.read_text() == before

    model = contents.get(notebook, type="notebook", content=True)
    model["content"]["cells"][0]["source"] += "\n\nWritten in JupyterLab."
    run_every_cell(model["content"])
    contents.save(model, notebook)
    title, rest = before.split("\n\n# %%", 1)
    assert path.read_text() == f"{title}\n#\n# Written in JupyterLab.\n\n# %%{rest}"

    states(mini)
    assert stale(mini) == []
    built = (mini / notebook).read_text()
    assert "Written in JupyterLab." in built
    assert all(word not in built for word in ("jupytext", "widgets", "3.11.7", "trusted", '"execution_count": 8'))


@pytest.mark.parametrize("source", ["older", "newer"])
def test_a_code_cell_edited_in_jupyterlab(mini, contents, source):
    path = mini / "sources/solutions/01_addition.py"
    before = path.read_text()
    set_ages(mini, "solution", source)
    model = contents.get("solutions/01_addition.ipynb", type="notebook", content=True)
    cell = next(cell for cell in model["content"]["cells"] if cell["metadata"].get("check") == "double")
    cell["source"] = cell["source"].replace("twice four", "two times four")
    contents.save(model, "solutions/01_addition.ipynb")
    assert path.read_text() == before.replace("twice four", "two times four")
    states(mini)
    assert stale(mini) == []
    assert "two times four" in (mini / "labs/01_addition.ipynb").read_text()


def test_jupyterlab_shows_a_source_that_was_edited(mini, contents):
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "three numbers")
    set_ages(mini, "lecture", "newer")
    first = contents.get("lectures/01_addition.ipynb", type="notebook", content=True)["content"]["cells"][0]["source"]
    assert "three numbers" in first


def test_jupyterlab_refuses_a_notebook_edited_past_its_source(mini, contents):
    """A notebook changed by a program without jupytext: neither of the two is overwritten by the other unasked."""
    edit(mini / "lectures/01_addition.ipynb", "two numbers", "three numbers")
    set_ages(mini, "lecture", "older")
    with pytest.raises(Exception, match=r"is more recent than sources/lectures/01_addition\.py"):
        contents.get("lectures/01_addition.ipynb", type="notebook", content=True)


def test_a_cell_added_in_jupyterlab_gets_its_id_from_its_text(mini, contents):
    set_ages(mini, "lecture", "older")
    model = contents.get("lectures/01_addition.ipynb", type="notebook", content=True)
    model["content"]["cells"].insert(6, nbformat.v4.new_code_cell("extra = 1", id="random-id"))
    contents.save(model, "lectures/01_addition.ipynb")
    states(mini)
    added = next(cell for cell in cells(mini, "lectures/01_addition.ipynb") if cell["source"] == "extra = 1")
    assert added["id"] == cell_id("code", "extra = 1")
    assert checked_cell(mini)["outputs"], "the checked output of another cell is kept"


def test_every_key_survives_both_ways(mini, contents):
    """All keys in the order in which CONTRIBUTING writes them, with and without what jupytext notes on blank lines."""
    edit(
        mini / "sources/lectures/01_addition.py", '# %% tags=["thumbnail"]', '# %% tags=["thumbnail"] slide="subslide"'
    )
    states(mini)
    paths = {kind: mini / f"sources/{kind}s/01_addition.py" for kind in ("lecture", "solution")}
    before = {kind: path.read_text() for kind, path in paths.items()}
    headers = {kind: [line for line in text.split("\n") if line.startswith("# %%")] for kind, text in before.items()}
    assert {key for key in KEYS if any(f"{key}=" in line for lines in headers.values() for line in lines)} == set(KEYS)
    for kind, path in paths.items():
        built = f"{kind}s/01_addition.ipynb"
        for source in ("newer", "older", "newer"):
            set_ages(mini, kind, source)
            contents.save(contents.get(built, type="notebook", content=True), built)
            assert [line for line in path.read_text().split("\n") if line.startswith("# %%")] == headers[kind]
            build(load(mini))
        assert path.read_text() == before[kind]


def test_the_pairing_of_this_repository_lets_our_keys_through():
    pairing = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["jupytext"]
    assert pairing["cell_metadata_filter"].split(",") == [*KEYS, "-all"]
    assert pairing["notebook_metadata_filter"] == "-all"
    assert pairing["formats"] == [
        {f"{kind}s/": "ipynb", f"sources/{kind}s/": "py:percent"} for kind in ("lecture", "solution")
    ]


# ---------------------------------------------------------------------------------------------------------- set-up cell


def test_the_setup_cell_names_address_and_tag_and_is_python(mini):
    manifest = load(mini)
    cell = setup_cell(manifest)
    compile(cell, "set-up", "exec")
    assert "git+https://github.com/example/mini@v1" in cell
    assert max(map(len, cell.split("\n"))) <= WIDEST
    for notebook in manifest.notebooks(KINDS):
        assert (
            next(cell for cell in cells(mini, notebook.relative) if cell["metadata"].get("tags") == ["setup"])["source"]
            == cell
        )


def test_make_notebook_needs_no_built_one(mini):
    notebook = load(mini).select(["01/lab"])[0]
    before = (mini / "labs/01_addition.ipynb").read_text()
    shutil.rmtree(mini / "labs")
    assert assemble.notebook_text(make_notebook(notebook)) == before
