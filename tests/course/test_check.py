"""Every static rule: what it finds, what it says, and what it leaves alone."""

import json
import re
from pathlib import Path

import pytest

from course.authoring import check as checks
from course.authoring.assemble import badge, setup_cell
from course.authoring.build import build
from course.authoring.check import Modules, check, fix
from course.manifest import KINDS, load
from course.notebook import read_notebook

LECTURE = "sources/lectures/01_addition.py"
SOLUTION = "sources/solutions/01_addition.py"
WRONG = "sources/wrong/01_addition.py"


def edit(root, name, old, new):
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def found(root, rebuild=True):
    """The findings as lines, without those on a checked output whose cell has just been edited."""
    manifest = load(root)
    if rebuild:
        build(manifest)
    return [str(finding) for finding in check(manifest)[0] if "`course test --update` stores it" not in str(finding)]


def test_the_mini_course_has_no_findings(mini):
    findings, summary = check(load(mini))
    assert [str(finding) for finding in findings] == []
    assert summary == "3 notebooks, no findings (code cells: median 2 lines, longest 7)"


def test_the_summary_counts(mini):
    edit(mini, LECTURE, "total = sum", "total = 0\ntotal = sum")
    edit(mini, LECTURE, "# ## Adding", "# ### Adding")
    build(load(mini))
    findings, summary = check(load(mini), load(mini).select(["01/lecture"]))
    assert len(findings) == 1
    # repeats and label 2, print 1, total 3, thumbnail 7, results 2
    assert summary == "1 notebook, 1 finding (code cells: median 2 lines, longest 7)"


def test_a_finding_names_file_cell_rule_and_what_to_do(mini):
    edit(mini, LECTURE, "# ## Adding", "# ### Adding")
    [line] = found(mini)
    number = (mini / LECTURE).read_text().split("\n").index("# ### Adding")  # the header stands in the line before
    identity = read_notebook(mini / "lectures/01_addition.ipynb")["cells"][3]["id"]
    assert line == (
        f'lectures/01_addition.ipynb: cell 4 [{identity}] "### Adding" ({LECTURE}:{number}): '
        "headings: `### Adding` skips a level: make it `## Adding`"
    )


# One line a rule: where to edit, what to put there, and what must be said (rule, then words of the message).
CASES = [
    # opening
    (LECTURE, "# # 01 Addition", "# # 1 Addition", "opening", "expected the title `# 01 Addition` in the first line"),
    (
        SOLUTION,
        "# # 01 Addition: solution",
        "# # 01 Addition",
        "opening",
        "expected the title `# 01 Addition: solution`",
    ),
    (LECTURE, "/blob/v1/", "/blob/v0/", "opening", "expected the badge of course.toml's repository and tag"),
    (LECTURE, "import pathlib\n", "", "opening", "differs from the set-up cell of course.toml: `course check --fix`"),
    (LECTURE, '# %% tags=["setup"]', "# %%", "opening", "expected one cell tagged setup, got 0"),
    (
        LECTURE,
        '# %% tags=["setup"]',
        '# %%\nx = 1\n\n# %% tags=["setup"]',
        "opening",
        "before any other code: move it up",
    ),
    (
        LECTURE,
        '# %% tags=["parameters"]',
        '# %%\nx = 1\n\n# %% tags=["parameters"]',
        "opening",
        "right after the set-up cell",
    ),
    # parameters
    (LECTURE, '# %% tags=["parameters"]', "# %%", "parameters", "expected one cell tagged parameters, got 0"),
    (
        LECTURE,
        "# %%\ntotal",
        '# %% tags=["parameters"]\ntotal',
        "parameters",
        "expected one cell tagged parameters, got 2",
    ),
    (LECTURE, "repeats: int = 10", "repeats = 10", "parameters", "line 1: expected `name: type = value"),
    (LECTURE, "repeats: int = 10", "repeats: int = 1000", "parameters", "expected int in [1, 100], got 1000"),
    (
        LECTURE,
        "  # [1, 100] how often to add",
        "",
        "parameters",
        "parameter repeats: expected a comment that says what it is",
    ),
    (LECTURE, "print(label, total)", "print(total)", "parameters", "parameter label: no later cell reads it"),
    # tags
    (
        LECTURE,
        "nbval-check-output",
        "nbval-check-outputs",
        "tags",
        "did you mean nbval-check-output?",
    ),
    (
        LECTURE,
        "# %% [markdown]\n# ## Adding",
        '# %% [markdown] tags=["thumbnail"]\n# ## Adding',
        "tags",
        "is for code cells",
    ),
    # gaps and their checks
    (
        SOLUTION,
        '# %% check="double" points=1\nassert double(4) == 8, "twice four is eight"',
        "",
        "gaps",
        "gap 'double' has no check",
    ),
    (
        SOLUTION,
        'assert double(4) == 8, "twice four is eight"',
        "double(4)",
        "gaps",
        "this check of gap 'double' asserts nothing",
    ),
    (
        SOLUTION,
        'assert add(2, 3) == 5, "two and three make five"',
        "import math",
        "gaps",
        "an assert that the student sees",
    ),
    # wrong answers
    (
        WRONG,
        '# %% gap="double" why="squares',
        '# %% gap="add" why="squares',
        "wrong-answers",
        "gap 'double': expected a wrong answer",
    ),
    (
        WRONG,
        'gap="double"',
        'gap="duoble"',
        "wrong-answers",
        "01_addition.py:11: no gap 'duoble' (known: add, double; did you mean",
    ),
    (WRONG, "return 5", "return (", "wrong-answers", "expected Python, got '(' was never closed"),
    (WRONG, "return a - b", "return a + b  # right", "wrong-answers", "this answer to gap 'add' is the right one"),
    (
        WRONG,
        ' why="subtracts"',
        "",
        "wrong-answers",
        'sources/wrong/01_addition.py:1: expected `# %% gap="..." why="..."`',
    ),
    # headings
    (LECTURE, "# ## Adding", "# # Adding", "headings", "a second title `# Adding`: make it `## Adding`"),
    (LECTURE, "# ## Summary", "# ## What we saw", "headings", "expected a section `## Summary` at the end"),
    (LECTURE, "# ## Exercises", "# ### Exercises", "headings", "expected a section `## Exercises` at the end"),
    (LECTURE, "# ## Adding", "# ## Summary\n#\n# ## Adding", "headings", "expected one section `## Summary`, got 2"),
    (
        LECTURE,
        "# ## Exercises",
        "# ## Further reading\n#\n# ## Exercises",
        "headings",
        "expected one section `## Further reading`, got 2",
    ),
    # lengths
    (
        LECTURE,
        "print(label, total)",
        "x = 1\n" * 24 + "print(label, total)",
        "length",
        "26 lines, at most 25: split the cell",
    ),
    # widths
    (
        LECTURE,
        "print(label, total)",
        "print(label, total)  # " + "x" * 66,
        "width",
        "line 2: code line of 89 characters; the pages show 88: break it, or say it in fewer words",
    ),
    (
        SOLUTION,
        "    assert add(number, -number) == 0",
        "    assert add(number, -number) == 0  # " + "x" * 60,
        "width",
        "line 4: code line of 100 characters",
    ),
    (SOLUTION, 'stub="return twice a"', f'stub="{"x" * 88}"', "width", "line 3: code line of 98 characters"),
    # links and pictures
    (
        LECTURE,
        "# Adding is rep",
        "# [see](../labs/02.ipynb)\n#\n# Adding is rep",
        "links",
        "no file '../labs/02.ipynb' seen from lectures/",
    ),
    (LECTURE, "# Adding is rep", '# <a href="x.md">x</a>\n#\n# Adding is rep', "links", "no file 'x.md'"),
    (LECTURE, "# Adding is rep", "# [see][1]\n#\n# [1]: x.md\n#\n# Adding is rep", "links", "no file 'x.md'"),
    (LECTURE, "# Adding is rep", "# [see](/etc/passwd)\n#\n# Adding is rep", "links", "no file '/etc/passwd'"),
    (LECTURE, "# Adding is rep", "# [see](../..)\n#\n# Adding is rep", "links", "'../..' lies outside the course"),
    (LECTURE, "# Adding is rep", "# ![a cat](cat.png)\n#\n# Adding is rep", "links", "no file 'cat.png'"),
    (
        LECTURE,
        "# Adding is rep",
        "# ![a cat](attachment:cat.png)\n#\n# Adding is rep",
        "links",
        "pasted into a notebook are not kept",
    ),
    (
        LECTURE,
        "# Adding is rep",
        "# ![ ](https://example.org/a.png)\n#\n# Adding is rep",
        "pictures",
        "write `![what it shows](https",
    ),
    (
        LECTURE,
        "# Adding is rep",
        '# <img src="https://example.org/a.png">\n#\n# Adding is rep',
        "pictures",
        'add alt="what it shows"',
    ),
    (
        LECTURE,
        "# Adding is rep",
        '# <img alt="" src="https://example.org/a.png">\n#\n# Adding is rep',
        "pictures",
        "no alternative text",
    ),
    # Python
    (LECTURE, "print(label, total)", "print(label, total", "python", "line 2: '(' was never closed"),
    (
        LECTURE,
        "print(label, total)",
        "print(label, total)\n# !pip install x",
        "python",
        "`!pip install x` runs a program or fetches",
    ),
    (
        LECTURE,
        "print(label, total)",
        "print(label, total)\n# %pip install x",
        "python",
        "`%pip install x` runs a program or fetches",
    ),
    # imports
    (
        LECTURE,
        "print(label, total)",
        "import numpie\nprint(label, total)",
        "imports",
        "no module 'numpie' is installed",
    ),
    (
        LECTURE,
        "print(label, total)",
        "from numpie import x\nprint(label, total)",
        "imports",
        "no module 'numpie' is installed",
    ),
    (
        LECTURE,
        "print(label, total)",
        "from . import x\nprint(label, total)",
        "imports",
        "relative imports do not work in a notebook",
    ),
    # the picture that stands for the notebook
    (LECTURE, '# %% tags=["thumbnail"]', "# %%", "thumbnail", 'expected one cell with tags=["thumbnail"]'),
    (SOLUTION, '# %% tags=["thumbnail"]', "# %%", "thumbnail", 'expected one cell with tags=["thumbnail"]'),
    (LECTURE, "# %%\ntotal", '# %% tags=["thumbnail"]\ntotal', "thumbnail", "got 2"),
    # metrics
    (
        LECTURE,
        "print(label, total)",
        "record(tolat=total)\nprint(label, total)",
        "metrics",
        "records tolat, which [topics.lecture.metrics] of course.toml",
    ),
    # what course.toml sets
    (
        "course.toml",
        "repeats = 2",
        "repeat = 2",
        "overrides",
        "has no parameter repeat (known: repeats, label; did you mean repeats?)",
    ),
    ("course.toml", "repeats = 2", "repeats = 0", "overrides", "parameter repeats: expected int in [1, 100], got 0"),
    (
        "course.toml",
        "[topics.lecture]\n",
        '[topics.lecture]\ndata = ["dataset"]\n',
        "overrides",
        "lectures/01_addition.ipynb has no parameter dataset (known: ",
    ),
    (
        "course.toml",
        "repeats = 2",
        'repeats = "2"',
        "overrides",
        "parameter repeats: expected int in [1, 100], got '2'",
    ),
    ("course.toml", "total = {", "sum_of_all = {", "metrics", "declares the metric sum_of_all, which no cell records"),
    ("course.toml", 'tag = "v1"', 'tag = "v2"', "opening", "differs from the set-up cell of course.toml"),
    (
        "course.toml",
        "[[topics]]",
        '[ranges]\n"tot*" = [0, 6]\n[[topics]]',
        "bands",
        "leaves what the metric can be, 0 to 6",
    ),
    # numbers in the text
    (
        SOLUTION,
        "## 1. Add (2 points)",
        "## 1. Add (3 points)",
        "counts",
        "the heading says (3 points), but its cells have 2",
    ),
    (SOLUTION, "Write two functions.", "Two gaps, 10 points.", "counts", "says 10 points, but the cells have"),
    (
        SOLUTION,
        "Write two functions.",
        "There are seven gaps.",
        "counts",
        "says seven gaps, but the cells have 2",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "rule", "message"), CASES)
def test_a_rule_finds(mini, name, old, new, rule, message):
    edit(mini, name, old, new)
    lines = found(mini)
    assert any(f": {rule}: " in line and message in line for line in lines), lines
    assert all("\n" not in line for line in lines)


# What looks like an offence but is none.
FINE = [
    (LECTURE, "# Adding is rep", "# `![](x.png)` and `[a](b.md)` are code.\n#\n# Adding is rep"),
    (LECTURE, "# Adding is rep", "# ```\n# # no heading\n# ![](x.png)\n# ```\n#\n# Adding is rep"),
    (LECTURE, "# Adding is rep", "# $a[i](x)$ and $$b[j](y)$$ are formulas.\n#\n# Adding is rep"),
    (
        LECTURE,
        "# Adding is rep",
        "# [lab](../labs/01_addition.ipynb#2.-Double) [x](#here) <m@x.org>\n#\n# Adding is rep",
    ),
    (
        LECTURE,
        "# Adding is rep",
        "# [a page](https://example.org/a_(b)) ![words](https://example.org/c.png)\n#\n# Adding is rep",
    ),
    (LECTURE, "print(label, total)", "x = 1\n" * 23 + "print(label, total)"),
    (LECTURE, "print(label, total)", "print(label, total)  # " + "ü" * 65),  # 88 characters, more bytes
    (SOLUTION, 'stub="return twice a"', f'stub="{"add a and a, " * 12}then return it"'),
    (LECTURE, "print(label, total)", "# %time print(label, total)"),
    (LECTURE, "print(label, total)", "words = (\n    '%s %d'\n    % (label, total)\n)"),
    (
        LECTURE,
        "print(label, total)",
        "try:\n    import cupy\nexcept ImportError:\n    cupy = None\nprint(label, total)",
    ),
    (LECTURE, "print(label, total)", "import os.path\nfrom collections import abc\nprint(label, total)"),
    (LECTURE, "print(label, total)", "recorder.record(loss=1)\nprint(label, total)"),
    (
        SOLUTION,
        'assert double(4) == 8, "twice four is eight"',
        "import numpy as np\nnp.testing.assert_equal(double(4), 8)",
    ),
    (SOLUTION, 'stub="return twice a"', 'stub="with return add(a, a) it would be told"'),
    (
        SOLUTION,
        "    return add(a, a)",
        "    return add(a, a)\n    ### END SOLUTION\n    return add(a, a)\n    ### BEGIN SOLUTION\n    pass",
    ),
    ("course.toml", "total = { cpu = [29, 31], smoke = [5, 7] }", "total = {}"),
]


@pytest.mark.parametrize(("name", "old", "new"), FINE)
def test_a_rule_leaves_alone(mini, name, old, new):
    edit(mini, name, old, new)
    assert found(mini) == []


def test_a_long_address_in_the_setup_cell_is_no_finding(mini):
    owner = "a-university-with-a-name-that-is-long" * 2
    edit(mini, "course.toml", "github.com/example/", f"github.com/{owner}/")
    manifest = load(mini)
    fix(manifest, manifest.notebooks(KINDS))
    assert max(len(line) for line in setup_cell(manifest).split("\n")) > 88
    assert found(mini) == []


# ------------------------------------------------------------------------------ rules on what stands in the files alone


def change(root, name, what):
    notebook = json.loads((root / name).read_text())
    what(notebook["cells"])
    (root / name).write_text(json.dumps(notebook))


FILES = [
    ("labs", lambda cells: cells[4].update(id="add-check"), "ids", "the id add-check is that of cell 5, too"),
    ("labs", lambda cells: cells[4].pop("id"), "ids", "expected an id of 1 to 64 letters, digits, - and _, got None"),
    ("labs", lambda cells: cells[4].update(id="a b"), "ids", "got 'a b'"),
    ("lectures", lambda cells: cells[5].update(execution_count=3), "outputs", "holds outputs or an execution count"),
    (
        "lectures",
        lambda cells: cells[5].update(outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}]),
        "outputs",
        "holds outputs or an execution count",
    ),
    (
        "lectures",
        lambda cells: cells[4].update(outputs=[]),
        "outputs",
        "its output is not stored: `course test --update`",
    ),
    (
        "lectures",
        lambda cells: cells[4].update(execution_count=None),
        "outputs",
        "one stored text and execution_count 1",
    ),
    (
        "lectures",
        lambda cells: cells[4]["outputs"].append({"output_type": "stream", "name": "stderr", "text": "w"}),
        "outputs",
        "one stored text and execution_count 1",
    ),
    (
        "labs",
        lambda cells: cells[4].update(source="def add(a, b):\n    return a + b"),
        "answers",
        "a line of the answer, `return a + b`",
    ),
    ("labs", lambda cells: cells[4].update(source="### BEGIN SOLUTION"), "answers", "which belongs in solutions only"),
    (
        "labs",
        lambda cells: cells[5].update(source="### BEGIN HIDDEN TESTS"),
        "answers",
        "which belongs in solutions only",
    ),
    (
        "labs",
        lambda cells: cells[-2].update(
            source="Addition is commutative: counting three after two ends where counting two after three does."
        ),
        "answers",
        "holds a line of the answer, `Addition is commutative",
    ),
    ("labs", lambda cells: cells.reverse(), "built", "differs from its source"),
]


@pytest.mark.parametrize(("folder", "what", "rule", "message"), FILES)
def test_a_rule_finds_in_an_edited_notebook(mini, folder, what, rule, message):
    name = f"{folder}/01_addition.ipynb"
    change(mini, name, what)
    findings = check(load(mini))[0]
    assert any(finding.rule == rule and finding.file == name and message in finding.message for finding in findings), (
        findings
    )
    assert "built" in {finding.rule for finding in findings}


def test_an_answer_of_several_lines_elsewhere_in_the_lab(mini):
    answer = "    ### BEGIN SOLUTION\n    first = a + 0\n    return first + b\n    ### END SOLUTION"
    edit(mini, SOLUTION, "    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION", answer)
    assert found(mini) == []
    edit(
        mini, SOLUTION, "# ## 2. Double", "# `first = a + 0\n#     return first + b` is not to be told\n# ## 2. Double"
    )
    [line] = [line for line in found(mini) if ": answers: " in line]
    assert "cell 8 " in line
    assert "holds the answer to 'add'" in line


def test_notebooks_that_cannot_be_read_or_built(mini):
    (mini / "labs/01_addition.ipynb").write_text("{")
    (mini / "lectures/01_addition.ipynb").unlink()
    edit(mini, WRONG, "def add", "def add")
    lines = [str(finding) for finding in check(load(mini))[0]]
    assert [line.split(": `")[0] for line in lines] == [
        "lectures/01_addition.ipynb: built: missing",
        "labs/01_addition.ipynb: built: not a notebook",
    ]
    edit(mini, SOLUTION, ' stub="return twice a"', "")
    lines = [str(finding) for finding in check(load(mini))[0]]
    assert re.match(r"sources/solutions/01_addition\.py:\d+: source: gap 'double': expected stub=", lines[1])
    assert len(lines) == 2


def test_every_rule_has_a_case():
    assert {case[3] for case in CASES} | {case[2] for case in FILES} == set(checks.RULES) | {"built", "overrides"}


# ----------------------------------------------------------------------------------------------------- imports of utils


@pytest.fixture
def utils(mini):
    """A package `utils` of the mini course's own."""
    (mini / "utils" / "data").mkdir(parents=True)
    (mini / "utils" / "__init__.py").write_text('"""Tools."""\n')
    (mini / "utils" / "session.py").write_text("")
    (mini / "utils" / "plots.py").write_text(
        "import math\ntry:\n    from os import sep as SEP\nexcept ImportError:\n    SEP = '/'\n"
        "PALETTE, OTHER = ['red'], 1\nwidth: int = 3\n\ndef curves(x):\n    inner = 1\n\nclass Grid:\n    rows = 2\n"
    )
    (mini / "utils" / "data" / "__init__.py").write_text("from utils.data.loading import load\n")
    (mini / "utils" / "data" / "loading.py").write_text("def load(name):\n    pass\n")
    (mini / "utils" / "lazy.py").write_text("def __getattr__(name):\n    return name\n")
    checks._FILES.clear()
    checks._NAMES.clear()
    return mini


IMPORTS = [
    ("from utils.plots import curves, Grid, PALETTE, OTHER, SEP, width, math", None),
    ("from utils import plots, data, session", None),
    ("import utils.data.loading", None),
    ("from utils.data import load, loading", None),
    ("from utils.lazy import anything", None),
    ("from utils import plots\nplots.curves(1)", None),
    ("from utils import plots as p\np.PALETTE", None),
    ("from utils import plots\nplots = {}\nplots.keys()", None),
    ("from utils import plots\n\ndef f(plots):\n    return plots.anything", None),
    ("from utils.plots import inner", "utils.plots has no inner: correct the name, or define it there"),
    ("from utils.plots import curve", "utils.plots has no curve: did you mean curves?"),
    ("from utils import plot", "utils has no plot: did you mean plots?"),
    ("import utils.plot", "no module 'utils.plot': did you mean plots?"),
    ("from utils.data.loader import load", "no module 'utils.data.loader': did you mean load?"),
    ("from utils import plots\nplots.curve(1)", "utils.plots has no curve: did you mean curves?"),
    ("import utils.plots as p\np.gird", "utils.plots has no gird"),
]


@pytest.mark.parametrize(("code", "message"), IMPORTS)
def test_imports_of_the_courses_own_modules(utils, code, message):
    edit(utils, LECTURE, "print(label, total)", f"print(label, total)\n\n# %%\n{code}")
    lines = [line for line in found(utils) if ": imports: " in line]
    if message is None:
        assert lines == []
    else:
        assert any(message in line for line in lines), lines
        assert len(lines) == 1


def test_modules_are_not_imported_to_look_into_them(utils):
    (utils / "utils" / "plots.py").write_text("raise SystemExit('imported')\n")
    assert Modules(utils).names("utils.plots") is not None


# ---------------------------------------------------------------------------------------------------------------- --fix


def test_fix_writes_badge_and_setup_cell_of_another_tag_and_address(mini):
    before = {name: (mini / name).read_text() for name in (LECTURE, SOLUTION)}
    edit(mini, "course.toml", 'tag = "v1"', 'tag = "v2"')
    edit(mini, "course.toml", "github.com/example/mini", "github.com/example/other")
    manifest = load(mini)
    assert len(found(mini)) == 6
    assert fix(manifest, manifest.notebooks(KINDS)) == [
        f"rewrote badge and set-up cell of {LECTURE}, and built lectures/01_addition.ipynb anew",
        f"rewrote badge and set-up cell of {SOLUTION}, "
        "and built solutions/01_addition.ipynb and labs/01_addition.ipynb anew",
    ]
    assert found(mini, rebuild=False) == []
    for name, text in before.items():
        assert (mini / name).read_text() == text.replace("mini/blob/v1", "other/blob/v2").replace("mini@v1", "other@v2")
    assert fix(manifest, manifest.notebooks(KINDS)) == []


def test_fix_puts_in_what_is_missing_and_moves_nothing_else(mini):
    whole = (mini / LECTURE).read_text()
    manifest = load(mini)
    cell = f'# %% tags=["setup"]\n{setup_cell(manifest)}\n\n'
    line = f"# {badge(manifest, manifest.notebooks()[0])}\n"
    for without in (whole.replace(cell, ""), whole.replace(line, ""), whole.replace(cell, "").replace(line, "")):
        assert without != whole
        (mini / LECTURE).write_text(without)
        assert len(fix(manifest, manifest.select(["01/lecture"]))) == 1
        assert (mini / LECTURE).read_text() == whole


def test_fix_keeps_blank_lines_around_the_setup_cell(mini):
    whole = (mini / LECTURE).read_text()
    spaced = whole.replace('\n\n# %% tags=["parameters"]', '\n\n\n\n# %% tags=["parameters"]')
    assert spaced != whole
    (mini / LECTURE).write_text(spaced.replace("import pathlib\n", ""))
    fix(load(mini), load(mini).select(["01/lecture"]))
    assert (mini / LECTURE).read_text() == spaced


def test_fix_leaves_broken_and_missing_sources_to_check(mini):
    (mini / LECTURE).unlink()
    (mini / SOLUTION).write_text("no header\n")
    assert fix(load(mini), load(mini).notebooks(KINDS)) == []
    assert {finding.rule for finding in check(load(mini))[0]} == {"built", "source"}


def test_fix_of_a_source_without_a_title_cell(mini):
    text = (mini / LECTURE).read_text()
    (mini / LECTURE).write_text(text[text.index('# %% tags=["setup"]') :])
    assert fix(load(mini), load(mini).select(["01/lecture"])) == []
    assert any("expected the title" in line for line in found(mini))


def test_the_rules_hold_for_the_notebooks_of_this_repository():
    """Only those that are there: a topic that is being written has no notebook yet."""
    manifest = load(Path(__file__).parents[2])
    there = [notebook for notebook in manifest.notebooks(KINDS) if notebook.path.exists()]
    assert [str(finding) for finding in check(manifest, there)[0]] == []
