"""course.toml and the parameters of notebooks: right values, and one line for every mistake."""

import json
import math
import pickle
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.errors import CourseError, nearest
from course.manifest import Notebook, find_root, load
from course.notebook import read_notebook, typed_cells
from course.parameters import Parameter, Text, parse_value, read_parameters, resolve, unread

REPOSITORY = Path(__file__).parents[2]

GOOD = """
[course]
title = "T"
repository = "https://github.com/a/b"
tag = "v1"
data = "https://example.org/data"

[profiles.cpu]
about = "a"
threads = 2
jobs = 1

[profiles.smoke]
about = "b"
threads = 1
jobs = 2

[[topics]]
name = "01_one"
title = "One"
about = "First."
[topics.lecture]
minutes = { cpu = 2, smoke = 0.5 }
memory_gb = 1.5
parameters.smoke = { epochs = 1, sizes = [8, 16], name = "x", quick = true }
[topics.lecture.metrics]
accuracy = { cpu = [0.9, 1], smoke = [0, 1] }
loss = [0, 2.5]
time = {}
[topics.solution]
minutes = 3
memory_gb = { cpu = 1, smoke = 2 }

[[topics]]
name = "02_two"
title = "Two"
about = "Second."
[topics.lecture]
minutes = 1
memory_gb = 1
[topics.solution]
minutes = 1
memory_gb = 1
"""


def course(tmp_path, text=GOOD):
    (tmp_path / "course.toml").write_text(text)
    return load(tmp_path)


def test_the_values_of_a_manifest(tmp_path):
    manifest = course(tmp_path)
    assert (manifest.title, manifest.tag, manifest.repository) == ("T", "v1", "https://github.com/a/b")
    assert [topic.number for topic in manifest.topics] == [1, 2]
    assert manifest.profiles["smoke"].jobs == 2
    lecture, solution = manifest.notebooks()[:2]
    assert (lecture.id, lecture.stem, lecture.title) == ("01/lecture", "01_one", "One: lecture")
    assert lecture.relative == "lectures/01_one.ipynb"
    assert lecture.path == tmp_path / "lectures" / "01_one.ipynb"
    assert lecture.source == tmp_path / "sources" / "lectures" / "01_one.py"
    assert lecture.overrides("smoke") == {"epochs": 1, "sizes": [8, 16], "name": "x", "quick": True}
    assert lecture.overrides("cpu") == {}
    assert lecture.bands("cpu") == {"accuracy": (0.9, 1.0), "loss": (0.0, 2.5), "time": None}
    assert lecture.bands("smoke")["accuracy"] == (0.0, 1.0)
    assert solution.bands("cpu") == {}


def test_parameters_that_choose_the_data(tmp_path):
    text = GOOD.replace("[topics.lecture]\n", '[topics.lecture]\ndata = ["name"]\n', 1)
    lecture, solution = course(tmp_path, text).notebooks()[:2]
    assert lecture.spec.data == ("name",) and solution.spec.data == ()
    assert not lecture.on_other_data("smoke", {"name": "x", "epochs": 7})  # the profile's own
    assert lecture.on_other_data("smoke", {"name": "y"}) and lecture.on_other_data("cpu", {"name": "x"})
    assert not solution.on_other_data("cpu", {"name": "y"})
    for wrong in ('"name"', "[1]", '["two words"]'):
        with pytest.raises(CourseError, match=r"topics\[0\]\.lecture\.data: expected names of the parameters"):
            course(tmp_path, GOOD.replace("[topics.lecture]\n", f"[topics.lecture]\ndata = {wrong}\n", 1))


def test_a_profile_that_is_not_named_takes_the_limits_of_cpu(tmp_path):
    lecture, solution = course(tmp_path).notebooks()[:2]
    assert [lecture.minutes(profile) for profile in ("cpu", "smoke", "real")] == [2, 0.5, 2]
    assert [lecture.memory_gb(profile) for profile in ("cpu", "smoke")] == [1.5, 1.5]
    assert [solution.memory_gb(profile) for profile in ("cpu", "smoke", "gpu")] == [1, 2, 1]
    assert solution.minutes("smoke") == 3


def test_a_lab_has_the_source_and_the_limits_of_its_solution(tmp_path):
    lab = course(tmp_path).notebooks(("lab",))[0]
    assert lab.source == tmp_path / "sources" / "solutions" / "01_one.py"
    assert lab.relative == "labs/01_one.ipynb"
    assert lab.minutes("cpu") == 3
    assert lab.wrong == tmp_path / "sources" / "wrong" / "01_one.py"


def test_values_can_be_hashed_compared_and_sent_to_another_process(tmp_path):
    notebook = course(tmp_path).notebooks()[0]
    again = pickle.loads(pickle.dumps(notebook))
    assert again == notebook
    assert len({notebook, again}) == 1


BROKEN = [
    (
        'title = "T"',
        'titel = "T"',
        "course.titel: unknown key (known: title, repository, tag, data, in_preparation, timed; did you mean title?)",
    ),
    ('title = "T"', "", "course.title: missing; expected a text"),
    ('title = "T"', "title = 3", "course.title: expected a text, got 3"),
    ('title = "T"', 'title = ""', "course.title: expected a text, got ''"),
    ('"v1"', '"v 1"', "course.tag: expected a tag of the repository, such as v0.1.0, got 'v 1'"),
    (
        "https://github.com/a/b",
        "github.com/a/b",
        "course.repository: expected https://github.com/OWNER/NAME, got 'github.com/a/b'",
    ),
    ("https://example.org/data", "there", "course.data: expected an address such as https://..., got 'there'"),
    ("threads = 2", "threads = 0", "profiles.cpu.threads: expected a whole number from 1 on, got 0"),
    ("threads = 2", "threads = true", "profiles.cpu.threads: expected a whole number from 1 on, got true"),
    ("threads = 2", "threads = 1.5", "profiles.cpu.threads: expected a whole number from 1 on, got 1.5"),
    ("[profiles.cpu]", "[profiles.mine]", "profiles.cpu: missing; expected a table (the notebooks' own values)"),
    ("[profiles.smoke]", '[profiles."a b"]', "profiles.a b: expected a name of lower-case letters and digits"),
    ("minutes = 3", "", "topics[0].solution.minutes: missing; expected a number, or numbers by profile"),
    ("minutes = 3", 'minutes = "two"', "topics[0].solution.minutes: expected a number, got 'two'"),
    ("minutes = 3", "minutes = nan", "topics[0].solution.minutes: expected a number, got nan"),
    ("minutes = 3", "minutes = inf", "topics[0].solution.minutes: expected a number, got inf"),
    ("minutes = 3", "minutes = -1", "topics[0].solution.minutes: expected a number above 0, got -1"),
    ("minutes = 3", "minutes = { smoke = 1 }", "topics[0].solution.minutes.cpu: missing; expected a number"),
    (
        "minutes = 3",
        "minutes = { cpu = 1, smok = 1 }",
        "topics[0].solution.minutes.smok: unknown key (known: cpu, smoke",
    ),
    ("minutes = 3", "minutes = 3\nminute = 3", "topics[0].solution.minute: unknown key"),
    ("loss = [0, 2.5]", "loss = [1, 0]", "metrics.loss: expected a band [low, high] with low <= high, got [1, 0]"),
    ("loss = [0, 2.5]", "loss = [1]", "metrics.loss: expected a band [low, high], got [1]"),
    ("loss = [0, 2.5]", "loss = 0.5", "metrics.loss: expected a band [low, high], got 0.5"),
    ("loss = [0, 2.5]", "loss = [0, nan]", "metrics.loss: expected a band [low, high], got [0, nan]"),
    (
        "loss = [0, 2.5]",
        "loss = { cup = [0, 1] }",
        "metrics.loss.cup: unknown key (known: cpu, smoke; did you mean cpu?)",
    ),
    ("loss = [0, 2.5]", '"a loss" = [0, 1]', "metrics.a loss: expected a name such as accuracy"),
    (
        "parameters.smoke =",
        "parameters.smoek =",
        "lecture.parameters.smoek: unknown key (known: cpu, smoke; did you mean",
    ),
    (
        "parameters.smoke =",
        "parameters.cpu =",
        "parameters.cpu: expected nothing (cpu's are the notebook's own values)",
    ),
    (
        "epochs = 1",
        "epochs = inf",
        "parameters.smoke.epochs: expected a number, a text, true or false, or a list of these",
    ),
    ("epochs = 1", "epochs = { a = 1 }", "parameters.smoke.epochs: expected a number"),
    ("epochs = 1", "epochs = 2026-01-01", "parameters.smoke.epochs: expected a number"),
    ('name = "01_one"', 'name = "one"', "topics[0].name: expected a name such as 01_convolution_arithmetic, got 'one'"),
    (
        'name = "01_one"',
        'name = "02_one"',
        "topics[1].name: expected a number of its own, got '02_two' beside '02_one'",
    ),
    (
        "[profiles.smoke]",
        "[profile.smoke]",
        "profile: unknown key (known: course, profiles, ranges, topics; did you mean profiles?)",
    ),
    ("[topics.solution]", "[topics.lab]", "topics[0].lab: unknown key"),
    ("[profiles.cpu]", '[ranges]\n"*" = [1, 0]\n[profiles.cpu]', "ranges.*: expected a range [low, high]"),
    ("[profiles.cpu]", '[ranges]\n"*" = [0, nan]\n[profiles.cpu]', "ranges.*: expected a range [low, high]"),
    ('tag = "v1"', 'tag = "v1"\ntimed = "total"', "course.timed: expected a list of patterns, each of a metric"),
    ('tag = "v1"', 'tag = "v1"\ntimed = ["speedup_*"]', "metric that some notebook records, got 'speedup_*'"),
    ('tag = "v1"', 'tag = "v1"\nin_preparation = "03_x"', "course.in_preparation: expected a list of names"),
    ('tag = "v1"', 'tag = "v1"\nin_preparation = ["02_x"]', "none with the number of a topic that is here, got '02_x'"),
    ('title = "T"', f"title = {'[' * 5000}", "not TOML: "),
    ('title = "T"', f"title = {'9' * 5000}", "not TOML: "),
    ('title = "T"', "title = ", "not TOML: Invalid value (at line 3, column 9)"),
]


@pytest.mark.parametrize(("old", "new", "line"), BROKEN, ids=[f"{new or 'no ' + old}" for old, new, _ in BROKEN])
def test_a_broken_manifest_is_one_line_with_the_key(tmp_path, old, new, line):
    assert old in GOOD
    with pytest.raises(CourseError) as error:
        course(tmp_path, GOOD.replace(old, new))
    message = str(error.value)
    assert message.startswith("course.toml: ")
    assert line in message
    assert "\n" not in message
    assert error.value.code == 2


def test_a_manifest_without_topics(tmp_path):
    start = GOOD[: GOOD.index("[[topics]]")]
    with pytest.raises(CourseError, match=r"course.toml: topics: missing; expected at least one \[\[topics\]\]"):
        course(tmp_path, start)
    with pytest.raises(CourseError, match=r"topics: expected at least one \[\[topics\]\], got \[\]"):
        course(tmp_path, "topics = []\n" + start)


def test_a_manifest_that_is_no_text(tmp_path):
    (tmp_path / "course.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(CourseError, match=r"course.toml: expected UTF-8 text, got byte 9 that is none"):
        load(tmp_path)


# ------------------------------------------------------------------------------------------------------- finding it


def test_the_root_is_the_nearest_folder_with_a_manifest(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_ROOT", raising=False)
    (tmp_path / "course.toml").write_text(GOOD)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert find_root() == tmp_path
    (tmp_path / "a" / "course.toml").write_text(GOOD)
    assert find_root() == tmp_path / "a"
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    assert find_root() == tmp_path
    assert find_root(tmp_path / "a") == tmp_path / "a"


def test_no_root(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"no course.toml in .* or above it: .*--root"):
        find_root()
    with pytest.raises(CourseError, match=r"no course.toml in nowhere \(--root must name"):
        find_root("nowhere")
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path / "gone"))
    with pytest.raises(CourseError, match=r"gone \(COURSE_ROOT must name"):
        find_root()


# --------------------------------------------------------------------------------------------------------- selecting


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ([], ["01/lecture", "01/solution", "02/lecture", "02/solution"]),
        (["1"], ["01/lecture", "01/solution"]),
        (["01"], ["01/lecture", "01/solution"]),
        (["two"], ["02/lecture", "02/solution"]),
        (["TWO"], ["02/lecture", "02/solution"]),
        (["02_two", "1"], ["01/lecture", "01/solution", "02/lecture", "02/solution"]),
        (["2", "02", "02_two"], ["02/lecture", "02/solution"]),
        (["01/lab"], ["01/lab"]),
        (["02_two/lecture"], ["02/lecture"]),
        (["labs/02_two.ipynb"], ["02/lab"]),
        (["sources/solutions/02_two.py"], ["02/solution"]),
    ],
)
def test_selectors(tmp_path, selectors, expected):
    assert [notebook.id for notebook in course(tmp_path).select(selectors)] == expected


def test_a_path_is_taken_from_here(tmp_path, monkeypatch):
    manifest = course(tmp_path)
    (tmp_path / "lectures").mkdir()
    monkeypatch.chdir(tmp_path / "lectures")
    assert [notebook.id for notebook in manifest.select(["./02_two.ipynb"])] == ["02/lecture"]
    assert [notebook.id for notebook in manifest.select([str(tmp_path / "labs/02_two.ipynb")])] == ["02/lab"]


def test_selectors_keep_to_the_kinds(tmp_path):
    assert [notebook.id for notebook in course(tmp_path).select(["1"], ("lab",))] == ["01/lab"]
    assert [notebook.id for notebook in course(tmp_path).select([], ("lab", "lecture"))][:2] == ["01/lecture", "01/lab"]


@pytest.mark.parametrize(
    ("selector", "line"),
    [
        ("7", "no topic '7' (known: 01_one, 02_two)"),
        ("tow", "no topic 'tow' (known: 01_one, 02_two; did you mean 02_two?)"),
        ("0", "no topic '0' (known: 01_one, 02_two)"),
        ("", "no topic '' (known: 01_one, 02_two)"),
        ("o", "'o' may be any of 01_one, 02_two: give the number"),
        ("lectures/02_tow.ipynb", "did you mean lectures/02_two.ipynb?"),
    ],
)
def test_a_selector_that_names_nothing(tmp_path, selector, line):
    with pytest.raises(CourseError) as error:
        course(tmp_path).select([selector])
    assert line in str(error.value)


def test_an_unknown_profile(tmp_path):
    manifest = course(tmp_path)
    assert manifest.profile("smoke").threads == 1
    with pytest.raises(CourseError, match=r"unknown profile 'smke' \(known: cpu, smoke; did you mean smoke\?\)"):
        manifest.profile("smke")


def test_nearest():
    assert nearest("epoch", ["seed", "epochs"]) == "epochs"
    assert nearest("trasnfer", ["01_convolution", "06_transfer_learning"]) == "06_transfer_learning"
    assert nearest("xyz", ["epochs"]) is None
    assert nearest("x", []) is None


# -------------------------------------------------------------------------------------------------------- parameters


def test_parameters_are_read_with_type_range_choices_and_comment():
    found = read_parameters(
        "# what the notebook can be told\n"
        "epochs: int = 5  # [1, 200] passes over the images\n"
        "rate: float = 1  # [0, ] step\n"
        "source: str = 'digits'  # {digits, clothing} what to train on\n"
        "quick: bool = False  # fewer images\n"
        "sizes: list[int] = [8, 16]  # [1, 64] of filters\n"
        "limit: int | None = None  # [, 9] at most\n"
        "words: list[str] | None = (\n    'a',\n)  # to show\n",
        "x",
    )
    assert list(found) == ["epochs", "rate", "source", "quick", "sizes", "limit", "words"]
    assert found["epochs"] == Parameter("epochs", "int", 5, "passes over the images", 1, 200)
    assert found["rate"].default == 1.0
    assert isinstance(found["rate"].default, float)
    assert (found["rate"].low, found["rate"].high) == (0.0, None)
    assert found["source"].choices == ("digits", "clothing")
    assert found["quick"].expected == "bool"
    assert found["sizes"].expected == "list[int] in [1, 64]"
    assert (found["limit"].default, found["limit"].high) == (None, 9)
    assert (found["words"].default, found["words"].comment) == (["a"], "to show")


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("epochs = 5", "line 1: expected `name: type = value  # comment`, got `epochs = 5`"),
        ("import os", "line 1: expected `name: type = value  # comment`, got `import os`"),
        ("epochs: int", "line 1: expected `name: type = value"),
        ("a: int = 1\nb.c: int = 1", "line 2: expected `name: type = value"),
        ("a: complex = 1", "parameter a: expected a type of int, float, str, bool, list[...] of these"),
        ("a: list = []", "parameter a: expected a type"),
        ("a: None | int = 1", "parameter a: expected a type"),
        ("a: int = 2 + n", "parameter a: expected a literal, got `2 + n`"),
        ("a: int = 'x'", "parameter a: expected int, got 'x'"),
        ("a: int = True", "parameter a: expected int, got True"),
        ("a: bool = 1", "parameter a: expected bool, got 1"),
        ("a: int = 1.0", "parameter a: expected int, got 1.0"),
        ("a: int = None", "parameter a: expected int, got None"),
        ("a: float = 1e999", "parameter a: expected float, got inf"),
        ("a: int = 9  # [1, 5] x", "parameter a: expected int in [1, 5], got 9"),
        ("a: list[int] = [1, 'b']", "parameter a: expected list[int], got [1, 'b']"),
        ("a: list[int] = 1", "parameter a: expected list[int], got 1"),
        ("a: str = 'c'  # {d, e} x", "parameter a: expected str in {d, e}, got 'c'"),
        ("a: int = 1  # [x, 5] y", "expected a range [low, high] of numbers at the start of the comment, got 'x'"),
        ("a: int = 1  # [5, 1] y", "with low <= high"),
        ("a: str = 'x'  # [1, 5] y", "fits int and float only, not str"),
        ("a: bool = True  # {True, False} y", "does not fit a bool"),
        ("a: int = 1\na: int = 2", "line 2: parameter a stands there twice"),
        ("a: int = (", "parameters cell, line 1: expected Python"),
    ],
)
def test_a_wrong_parameters_cell(cell, line):
    with pytest.raises(CourseError) as error:
        read_parameters(cell, "lectures/x.ipynb")
    assert str(error.value).startswith("lectures/x.ipynb: parameters cell, line ")
    assert line in str(error.value)


def parameter(line):
    return next(iter(read_parameters(line, "x").values()))


@pytest.mark.parametrize(
    ("line", "text", "value"),
    [
        ("a: int = 1", "7", 7),
        ("a: int = 1", "-7", -7),
        ("a: float = 1", "1e-3", 0.001),
        ("a: float = 1", "3", 3.0),
        ("a: str = ''", "3", "3"),
        ("a: str = ''", " x=y ", " x=y "),
        ("a: str = 'u'  # {u, v} w", "v", "v"),
        *[("a: bool = True", text, True) for text in ("true", "True", "yes", "on", "1")],
        *[("a: bool = True", text, False) for text in ("false", "NO", "off", "0")],
        ("a: list[int] = []", "1,2, 3", [1, 2, 3]),
        ("a: list[int] = []", "[1, 2]", [1, 2]),
        ("a: list[int] = []", "[]", []),
        ("a: list[int] = []", "", []),
        ("a: list[float] = []", "1", [1.0]),
        ("a: list[str] = []", "['u', \"v\"]", ["u", "v"]),
        ("a: list[bool] = []", "yes,no", [True, False]),
        ("a: int | None = 1", "none", None),
        ("a: str | None = 'u'", "None", None),
        ("a: str = 'u'", "none", "none"),
    ],
)
def test_values_from_the_command_line(line, text, value):
    parsed = parse_value(text, parameter(line))
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        ("a: int = 1  # [1, 200] x", "ten", "parameter a: expected int in [1, 200], got 'ten'"),
        ("a: int = 1  # [1, 200] x", "0", "parameter a: expected int in [1, 200], got 0"),
        ("a: int = 1  # [1, 200] x", "1.5", "got '1.5'"),
        ("a: float = 1", "nan", "parameter a: expected float, got nan"),
        ("a: float = 1", "inf", "parameter a: expected float, got inf"),
        ("a: bool = True", "maybe", "parameter a: expected bool, got 'maybe'"),
        ("a: str = 'u'  # {u, v} w", "x", "parameter a: expected str in {u, v}, got 'x'"),
        ("a: list[int] = []  # [0, 3] x", "1,9", "parameter a: expected list[int] in [0, 3], got [1, 9]"),
        ("a: list[int] = []", "1,,2", "parameter a: expected list[int], got '1,,2'"),
        ("a: int = 1", "none", "parameter a: expected int, got 'none'"),
    ],
)
def test_wrong_values_from_the_command_line(line, text, message):
    with pytest.raises(CourseError) as error:
        parse_value(text, parameter(line))
    assert message in str(error.value)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_a_range_is_closed(low, high, value):
    low, high = min(low, high), max(low, high)
    ranged = Parameter("a", "int", low, "", low, high)
    if low <= value <= high:
        assert parse_value(str(value), ranged) == value
    else:
        with pytest.raises(CourseError):
            parse_value(str(value), ranged)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_a_list_survives_the_command_line(values):
    assert parse_value(repr(values), Parameter("a", "list[float]", [], "")) == values
    assert all(math.isfinite(value) for value in values)


# ---------------------------------------------------------------------------------------------- held against a notebook


def notebook(tmp_path, *cells, tagged="parameters"):
    path = tmp_path / "n.ipynb"
    start = {
        "cell_type": "code",
        "metadata": {"tags": [tagged]},
        "source": "epochs: int = 5  # [1, 9] a\nname: str = 'u'  # b",
    }
    rest = [{"cell_type": "code", "metadata": {}, "source": cell} for cell in cells]
    path.write_text(json.dumps({"cells": [start, *rest]}))
    return path


def test_overrides_are_resolved(tmp_path):
    path = notebook(tmp_path, "print(epochs, name)")
    assert resolve(path, {}, "n") == {}
    assert resolve(path, {"epochs": 3}, "n") == {"epochs": 3}
    assert resolve(path, {"epochs": Text("3"), "name": Text("3")}, "n") == {"epochs": 3, "name": "3"}
    assert type(resolve(path, {"name": Text("3")}, "n")["name"]) is str


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"epoch": 3}, "n.ipynb: unknown parameter epoch (known: epochs, name; did you mean epochs?)"),
        ({"zzz": 3}, "n.ipynb: unknown parameter zzz (known: epochs, name)"),
        ({"epochs": "3"}, "n.ipynb: parameter epochs: expected int in [1, 9], got '3'"),
        ({"epochs": Text("ten")}, "n.ipynb: parameter epochs: expected int in [1, 9], got 'ten'"),
        ({"epochs": 10}, "n.ipynb: parameter epochs: expected int in [1, 9], got 10"),
        ({"epochs": True}, "n.ipynb: parameter epochs: expected int in [1, 9], got True"),
        ({"name": "v"}, "n.ipynb: parameter name: no later cell reads it"),
    ],
)
def test_overrides_that_do_not_fit(tmp_path, overrides, line):
    with pytest.raises(CourseError) as error:
        resolve(notebook(tmp_path, "print(epochs)"), overrides, "n.ipynb")
    assert str(error.value) == line
    assert error.value.code == 2


def test_a_notebook_without_parameters(tmp_path):
    with pytest.raises(CourseError, match=r"n: unknown parameter epochs \(known: none\)"):
        resolve(notebook(tmp_path, "epochs", tagged="other"), {"epochs": 1}, "n")


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("print(epochs)", True),
        ("%time fit(epochs)", True),
        ("epochs = 3", False),
        ("epochs += 1", True),
        ("f'{epochs} passes'", True),
        ("model.epochs", False),
        ("f(epochs=3)", False),
        ("'epochs'", False),
        ("text = (\n    'after %d'\n    % epochs\n)", True),
        ("this is no Python but epochs", True),
        ("epochs = 3\nprint(epochs)", False),
        ("epochs, other = 3, 4\nprint(epochs)", False),
        ("def epochs():\n    pass\nepochs()", False),
        ("import epochs\nepochs.run()", False),
        ("epochs = epochs or 3", True),
        ("if name:\n    epochs = 3\nprint(epochs)", True),
        ("for epochs in range(3):\n    print(epochs)", True),  # a loop may have nothing to do
        ("def fit(epochs):\n    return epochs", False),
        ("def fit(n=epochs):\n    return n", True),
        ("def fit():\n    return epochs", True),
        ("def fit():\n    epochs = 3\n    return epochs", False),
        ("def fit():\n    global epochs\n    epochs += 1", True),
        ("[epochs for epochs in range(3)]", False),
        ("[n for n in range(epochs)]", True),
        ("[epochs for epochs in epochs]", True),
        ("f = lambda epochs: epochs", False),
        ("!echo {epochs}", True),
        ("%matplotlib inline\nif name:\n    %time fit(epochs)", True),
        ("x = " + "-" * 5000 + "1", False),
        ("x = '\0'", False),
    ],
)
def test_what_reads_a_parameter(source, read):
    cells = [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "epochs: int = 5"}]
    cells.append({"cell_type": "code", "metadata": {}, "source": source})
    assert unread(cells, ["epochs"]) == ([] if read else ["epochs"])


def test_a_parameter_that_an_earlier_cell_sets_is_not_read_by_a_later_one(tmp_path):
    with pytest.raises(CourseError, match="n: parameter epochs: no later cell reads it"):
        resolve(notebook(tmp_path, "epochs = 3", "print(epochs)"), {"epochs": 1}, "n")


def damaged(**changes):
    cell = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": []}
    return json.dumps({"cells": [{**cell, **changes}], "metadata": {}})


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            '{"cells": [], "metadata": []}',
            "n.ipynb: expected a notebook (nbformat 4), got one whose metadata is no table",
        ),
        (damaged(metadata=[]), "got a cell (1) whose metadata is no table"),
        (damaged(metadata={"tags": 5}), "got a cell (1) whose tags are no list of texts"),
        (damaged(metadata={"tags": [5]}), "got a cell (1) whose tags are no list of texts"),
        (damaged(source=5), "got a cell (1) whose source is no text"),
        (damaged(source=[5]), "got a cell (1) whose source is no text"),
        (damaged(id=[1]), "got a cell (1) whose id is no text"),
        (damaged(cell_type="x"), "got a cell (1) whose type is neither code nor markdown nor raw"),
        (damaged(cell_type=5), "got a cell (1) whose type is neither code nor markdown nor raw"),
        (damaged(outputs={}), "got a cell (1) whose outputs are no list of tables"),
        (damaged(outputs=[5]), "got a cell (1) whose outputs are no list of tables"),
        (damaged(source="'\ud800'"), "n.ipynb: expected text that UTF-8 can write, got '\\ud800'"),
        (damaged(outputs=[{"text": "\udfff"}]), "n.ipynb: expected text that UTF-8 can write, got '\\udfff'"),
    ],
)
def test_a_notebook_that_is_none_is_one_line(tmp_path, content, line):
    path = tmp_path / "n.ipynb"
    path.write_text(content)
    with pytest.raises(CourseError) as error:
        read_notebook(path, "n.ipynb")
    assert line in str(error.value)


def test_a_byte_order_mark_and_whole_characters_are_read(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text("\ufeff" + damaged(source="\U0001f600"), encoding="utf-8")
    assert "\\ud83d" in path.read_text(encoding="utf-8") and read_notebook(path)["cells"][0]["source"] == "\U0001f600"


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('["a,b", "c"]', ["a,b", "c"]),
        ("['a,b', 'c']", ["a,b", "c"]),
        ('"a,b",c', ["a,b", "c"]),
        ("[a, b]", ["a", "b"]),
        ("a,b,", ["a", "b"]),
        ("[]", []),
        ("", []),
        ("[" * 5000, ["[" * 5000]),
    ],
)
def test_a_list_of_texts_is_split_at_its_own_commas(text, items):
    assert parse_value(text, Parameter("a", "list[str]", [], "")) == items


def test_a_typed_cell_says_what_it_is_for(tmp_path):
    path = tmp_path / "n.ipynb"
    made = [
        ("code", {"tags": ["setup"]}),
        ("code", {"tags": ["parameters", "hide-input"]}),
        ("markdown", {}),
        ("code", {"gap": "add", "stub": "x"}),
        ("code", {"check": "add", "points": 1.5}),
        ("markdown", {"question": "why", "points": 2}),
        ("code", {"points": True}),
    ]
    cells = [{"cell_type": kind, "metadata": metadata, "source": "1"} for kind, metadata in made]
    path.write_text(json.dumps({"cells": cells}))
    found = typed_cells(read_notebook(path))
    assert [cell.role for cell in found] == ["setup", "parameters", "text", "gap", "check", "question", "code"]
    assert [cell.name for cell in found] == ["", "", "", "add", "add", "why", ""]
    assert [cell.points for cell in found] == [0, 0, 0, 0, Fraction(3, 2), 2, 0]
    assert found[1].tags == ("parameters", "hide-input") and found[3].index == 3


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("not JSON", "n.ipynb: expected a notebook in JSON, got: Expecting value: line 1 column 1 (char 0)"),
        ("", "n.ipynb: expected a notebook in JSON, got: Expecting value"),
        ("[]", "n.ipynb: expected a notebook (nbformat 4), got JSON without its cells"),
        ('{"cells": [3]}', "n.ipynb: expected a notebook (nbformat 4), got JSON without its cells"),
        ('{"cells": [{"cell_type": "code", "metadata": 3}]}', "a cell (1) whose metadata is no table"),
        ("[" * 100_000, "n.ipynb: expected a notebook in JSON"),
    ],
)
def test_a_file_that_is_no_notebook(tmp_path, content, line):
    path = tmp_path / "n.ipynb"
    path.write_text(content)
    with pytest.raises(CourseError) as error:
        read_notebook(path, "n.ipynb")
    assert line in str(error.value)


def test_a_missing_notebook(tmp_path):
    with pytest.raises(CourseError, match=r"n.ipynb: no such file \(`course build` makes the notebooks"):
        read_notebook(tmp_path / "n.ipynb", "n.ipynb")


def test_source_lines_are_joined(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text('{"cells": [{"cell_type": "code", "source": ["a\\n", "b"]}]}')
    assert read_notebook(path)["cells"][0]["source"] == "a\nb"


# -------------------------------------------------------------------------------------------------- the course itself


def test_the_course_of_this_repository_can_be_read():
    manifest = load(REPOSITORY)
    assert {"cpu", "smoke", "real", "gpu"} <= set(manifest.profiles)
    assert manifest.tag == "v" + tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert all(isinstance(notebook, Notebook) for notebook in manifest.notebooks())


def test_the_manifest_needs_the_standard_library_only():
    loaded = "{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)"
    code = f"import sys, course.manifest; print({loaded})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert eval(done.stdout) <= {"course", "__main__", "sitecustomize", "usercustomize"}
