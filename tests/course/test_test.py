"""`course test` on the mini course, whole and broken on purpose. A kernel takes two seconds, so each run shows several
things.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from course.authoring import build
from course.errors import CourseError
from course.execution import template
from course.manifest import KINDS, load
from course.notebook import read_notebook
from course.proving import suite, test


def edit(path, old, new):
    """Change a file and be sure that it changed."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def rebuild(root):
    manifest = load(root)
    assert {built.state for built in build.build(manifest)} <= {"written", "unchanged"}
    return manifest


def one(manifest, kind):
    return manifest.select([f"01/{kind}"])[0]


def cells(notebook):
    return json.loads(notebook.path.read_text(encoding="utf-8"))["cells"]


def lines(outcome):
    return [message for message, _ in outcome.problems]


def run(manifest, *selectors, **options):
    """The problems and everything that was said."""
    said = []
    return test.test(manifest, manifest.select(selectors, KINDS), say=said.append, **options), "\n".join(said)


# ---------------------------------------------------------------------------------------------------------- all is well


def test_a_course_without_faults_passes_and_each_proof_takes_one_line(mini):
    manifest = load(mini)
    before = {path: path.read_bytes() for path in mini.rglob("*") if path.is_file()}
    problems, said = run(manifest)
    assert problems == []
    proofs = sorted(said.splitlines()[:-1])
    assert len(proofs) == 3 and all(line.startswith("ok ") for line in proofs)
    shown = " ".join(said.split())
    for words in ["6 cells, 1 compared", "3 of 3 caught, 2 gaps", "at the stub of 'add'"]:
        assert words in shown
    assert "3 proofs: " in said and "2 at a time" in said and "wrong answers" in said.splitlines()[-1]
    after = {path: path.read_bytes() for path in mini.rglob("*") if path.is_file()}
    changed = {path.relative_to(mini).parts[:2] for path in after if before.get(path) != after[path]}
    assert changed <= {("build", "test"), ("build", "cache")}, "everything it writes stays below build"

    same, said = run(manifest)
    assert same == [] and said.count("same  ") == 3 and "3 proofs, 3 of them as before" in said
    assert "3 of 3 caught, 2 gaps" in said


@pytest.mark.parametrize(
    "selector, parts, expected",
    [
        ("01/lecture", ["outputs", "lab", "wrong"], ["outputs"]),
        # it stores nothing, and runs whole among its wrong answers
        ("01/solution", ["outputs", "lab", "wrong"], ["wrong"]),
        ("01/solution", ["outputs", "lab"], ["outputs"]),
        ("01/lab", ["outputs", "lab", "wrong"], ["lab"]),
        ("01", ["lab"], ["lab"]),
        ("01/lecture", ["wrong"], []),
    ],
)
def test_what_is_proved_follows_from_the_kind_of_notebook(mini, monkeypatch, selector, parts, expected):
    done = []
    for name, part in [("nbval_suite", "outputs"), ("prove_lab", "lab"), ("prove_wrong_answers", "wrong")]:
        monkeypatch.setattr(
            test, name, lambda _, notebook, *rest, part=part: done.append(part) or test.Outcome(part, notebook)
        )
    assert run(load(mini), selector, parts=parts)[0] == []
    assert sorted(done) == expected


@pytest.mark.parametrize("faulty", [False, True])
def test_a_solution_that_stores_an_output_is_held_against_it_too(mini, faulty):
    source = mini / "sources/solutions/01_addition.py"
    edit(source, '# %% tags=["thumbnail"]', '# %% tags=["nbval-check-output"]\nprint(1 + 2)\n\n# %% tags=["thumbnail"]')
    manifest = rebuild(mini)
    if not faulty:
        test.update_outputs(manifest, one(manifest, "solution"))
    problems, said = run(load(mini), "01/solution")
    assert "stored outputs" in said and bool(problems) == faulty


def test_an_unknown_part_is_misuse(mini):
    with pytest.raises(CourseError, match="unknown part 'labs'"):
        run(load(mini), parts=["labs"])


# ------------------------------------------------------------------------------------------------------ stored outputs


def test_a_stale_output_and_a_cell_that_raises_are_told_each_once(mini):
    edit(mini / "sources/lectures/01_addition.py", "total = sum(", "total = summ(")
    manifest = rebuild(mini)
    edit(one(manifest, "lecture").path, '"3\\n"', '"5\\n"')
    problems, said = run(manifest, "01/lecture")
    assert problems == [
        'lectures/01_addition.ipynb: cell 5 ("print(2 + 1)"): prints something else than is stored; '
        "if that is meant: `course test --update 01/lecture`",
        "lectures/01_addition.ipynb: cell 6 (\"total = summ([2 + 1] * repeats)\"): NameError: name 'summ' is not "
        "defined",
    ], "and the cells after it, which would only fail with it, are not told"
    assert "expected: 5" in said and "got:      3" in said
    assert "----> 1 total = summ(" in said and "2 problems in 1 proof: " in said


@pytest.mark.parametrize(
    "expected, got, shown",
    [
        ("3\n", "4\n", "expected: 3\ngot:      4"),
        ("a\nb\nc\n", "a\nB\nc\n", "expected: b\ngot:      B"),
        ("a\nb\n", "a\n", "expected: b"),
        ("a \n", "a\n", "expected: 'a \\n'\ngot:      'a\\n'"),
        ("", "x\n" * 12, "\n".join(["got:      x"] * 10) + "\n... and 2 lines more"),
    ],
)
def test_differences_are_shown_line_by_line_and_spaces_in_quotes(expected, got, shown):
    assert suite.compared_lines(expected, got) == shown


def test_outputs_that_nbval_would_pass_over_are_faults(mini):
    notebook = one(load(mini), "lecture")
    whole = read_notebook(notebook.path)
    checked = next(index for index, cell in enumerate(whole["cells"]) if cell.get("outputs"))

    def told(**changes):
        cell = {**whole["cells"][checked], **changes}
        return [message for _, message in test.unstored([*whole["cells"][:checked], cell])]

    assert told() == []
    assert "is missing" in told(outputs=[])[0]
    assert "execution_count null" in told(execution_count=None)[0]
    assert "take one away" in told(metadata={"tags": ["nbval-check-output", "nbval-skip"]})[0]
    picture = {"output_type": "display_data", "data": {"image/png": "x", "text/plain": "3"}, "metadata": {}}
    assert "something else than one printed text" in told(outputs=[picture])[0]
    assert "stores nothing" in told(metadata={}, source="# NBVAL_CHECK_OUTPUT\nprint(3)")[0]

    edit(notebook.path, '"execution_count": 1', '"execution_count": null')
    problems, _ = run(load(mini), "01/lecture")
    assert len(problems) == 1, "told once, though nbval has its own words for it"
    assert problems[0].startswith(
        'lectures/01_addition.ipynb: cell 5 ("print(2 + 1)"): has an output but execution_count'
    )


@pytest.mark.parametrize(
    "cell, limits, told",
    [
        ("import os\nos._exit(3)", {}, "KernelDied: the kernel ended by itself with exit code 3"),
        ("while True:\n    print('x' * 1000)", {}, "Flooded: printed more than 5,000,000 bytes"),
        ("import time\ntime.sleep(600)", {"wall_seconds": 5}, "the wall limit is 5 s"),
        ("while True: pass", {"cpu_seconds": 3}, "used more than 3 s of CPU time, the limit of this notebook"),
    ],
)
def test_a_cell_that_never_ends_well_is_told_as_that(mini, monkeypatch, cell, limits, told):
    edit(mini / "sources/lectures/01_addition.py", "total = sum(", f"{cell}\ntotal = sum(")
    monkeypatch.setattr(test, "request", with_limits(**limits))
    manifest = rebuild(mini)
    outcome = test.nbval_suite(manifest, one(manifest, "lecture"))
    (message,) = lines(outcome)
    assert "cell 6" in message and told in message
    assert outcome.cpu_seconds < 20, "nothing spins until the limit"


def with_limits(**limits):
    """`test.request` with other limits."""
    original = test.request

    def limited(*arguments, **options):
        return dataclasses.replace(original(*arguments, **options), **limits)

    return limited


def test_a_notebook_that_nbval_cannot_collect_is_told(mini, monkeypatch):
    manifest = load(mini)
    monkeypatch.setattr(
        test, "prepare", lambda notebook, path: path.parent.mkdir(parents=True) or path.write_text("{}")
    )
    with pytest.raises(CourseError, match="not a notebook"):
        test.nbval_suite(manifest, one(manifest, "lecture"))


def test_nbval_alone_passes_on_a_prepared_notebook(mini):
    """As its users call it, with nothing of ours: `papermill --prepare-only`, then `pytest --nbval-lax`."""
    manifest = load(mini)
    path = mini / "prepared.ipynb"
    (mini / "pytest.ini").write_text("[pytest]\n")
    test.prepare(one(manifest, "lecture"), path)
    command = [sys.executable, "-m", "pytest", "-p", "nbval.plugin", "--nbval-lax", "-q", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=mini, env={**os.environ, **ALONE})
    assert done.returncode == 0 and "7 passed" in done.stdout, done.stdout
    edit(path, '"3\\n"', '"5\\n"')
    done = subprocess.run(command, capture_output=True, text=True, cwd=mini, env={**os.environ, **ALONE})
    assert done.returncode == 1 and "Cell outputs differ" in done.stdout


ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


# --------------------------------------------------------------------------------------------------------------
# --update


def test_update_stores_what_the_smoke_parameters_print_as_build_would_have_it(mini):
    """The prepared notebook has papermill's cell below the parameters, which shifts every cell after it by one."""
    source = mini / "sources/lectures/01_addition.py"
    edit(source, "print(2 + 1)", 'print("a  \\n\\tb ", end="")\nprint(repeats)')
    manifest = rebuild(mini)
    lecture = one(manifest, "lecture")
    assert not any(cell.get("outputs") for cell in cells(lecture)), "another cell, so its old output is gone"
    problems, said = run(manifest, update=True)
    assert problems == [] and "1 checked output stored" in said and "01/solution" not in said
    (cell,) = [cell for cell in cells(lecture) if cell.get("outputs")]
    assert cell["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["a  \n", "\tb 2\n"]}]
    assert cell["execution_count"] == 1
    assert {built.state for built in build.build(manifest, check=True)} == {"unchanged"}
    before = lecture.path.stat().st_mtime_ns
    assert "1 checked output as stored already" in run(manifest, update=True)[1]
    assert lecture.path.stat().st_mtime_ns == before
    assert run(manifest, "01/lecture")[0] == []


def test_update_refuses_what_cannot_be_compared_and_then_stores_nothing(mini):
    header = '# %% tags=["nbval-check-output"]\n'
    bad = ["7 * 6", "import sys\nprint('careful', file=sys.stderr)", "print(object())", "pass"]
    edit(
        mini / "sources/lectures/01_addition.py",
        f"{header}print(2 + 1)",
        "\n".join(header + cell for cell in ["print(8)", *bad]),
    )
    manifest = rebuild(mini)
    lecture = one(manifest, "lecture")
    before = lecture.path.read_bytes()
    problems, _ = run(manifest, update=True)
    words = ["shows text/plain", "writes to stderr", "prints an address in memory (0x", "prints nothing to compare"]
    assert len(problems) == 4
    for number, (problem, word) in enumerate(zip(problems, words, strict=True), 6):
        assert problem.startswith(f"lectures/01_addition.ipynb: cell {number} (") and word in problem
    assert lecture.path.read_bytes() == before


def test_update_of_a_notebook_that_fails_stores_nothing(mini):
    edit(mini / "sources/lectures/01_addition.py", "total = sum(", "total = summ(")
    manifest = rebuild(mini)
    before = one(manifest, "lecture").path.read_bytes()
    problems, _ = run(manifest, update=True)
    assert len(problems) == 1 and "nothing stored: NameError" in problems[0]
    assert one(manifest, "lecture").path.read_bytes() == before


# -------------------------------------------------------------------------------------------------- labs as handed out


def test_a_lab_that_fails_early_for_another_reason_is_told(mini):
    edit(
        mini / "sources/solutions/01_addition.py",
        "# %% [markdown]\n# ## 1. Add",
        "# %%\nimport maths\n\n# %% [markdown]\n# ## 1. Add",
    )
    outcome = test.prove_lab(rebuild(mini), one(load(mini), "lab"))
    assert lines(outcome) == [
        "labs/01_addition.ipynb: cell 4 (\"import maths\"): ModuleNotFoundError: No module named 'maths', "
        "before the first gap 'add' (cell 6): every cell above it must pass"
    ]
    assert "----> 1 import maths" in outcome.problems[0][1]


def test_a_lab_that_meets_its_gap_late_or_never_is_told(mini):
    source = mini / "sources/solutions/01_addition.py"
    edit(source, "assert add(2, 3) == 5", "try:\n    add(2, 3)\nexcept NotImplementedError:\n    pass\nassert True")
    outcome = test.prove_lab(rebuild(mini), one(load(mini), "lab"))
    (message,) = lines(outcome)
    assert "cell 10" in message and "which is not the stub of the first gap 'add' (cell 5)" in message


def test_a_lab_whose_kernel_dies_or_hangs_is_told_so(mini):
    edit(
        mini / "sources/solutions/01_addition.py",
        '# %% tags=["parameters"]',
        '# %%\nimport os\n\nos._exit(7)\n\n# %% tags=["parameters"]',
    )
    outcome = test.prove_lab(rebuild(mini), one(load(mini), "lab"))
    (message,) = lines(outcome)
    assert "cell 3" in message and "KernelDied: the kernel ended by itself with exit code 7" in message


# ----------------------------------------------------------------------------------------------------------- wrong
# answers


def test_every_kind_of_wrong_answer_that_proves_nothing_is_told(mini):
    wrong = mini / "sources/wrong/01_addition.py"
    wrong.write_text(
        '# %% gap="add" why="right for small numbers"\n'
        "def add(a, b):\n    return a + b if abs(a) < 100 else 0\n\n\n"
        '# %% gap="add" why="returns a text"\n'
        "def add(a, b):\n    return int('five')\n\n\n"
        '# %% gap="add" why="subtracts"\n'
        "def add(a, b):\n    return a - b\n\n\n"
        '# %% gap="add" why="is no Python"\n'
        "def add(a, b):\n    return undefined\n\n\nadd(1, 2)\n\n\n"
        '# %% gap="ad" why="is nowhere"\n'
        "ad = 1\n"
    )
    outcome = test.prove_wrong_answers(load(mini), one(load(mini), "solution"))
    said = lines(outcome)
    here = "solutions/01_addition.ipynb"
    assert (
        said[0].startswith(f"{here}: sources/wrong/01_addition.py:")
        and "unknown gap 'ad' (known: add, double)" in said[0]
    )
    assert said[1] == (
        f"{here}: cell 9 (\"def double(a):\"): gap 'double' has no wrong answer that its checks must catch: "
        "write one in sources/wrong/"
    )
    assert said[2].startswith(
        f"{here}: cell 5 (\"def add(a, b):\"): gap 'add': the wrong answer 'right for small numbers'"
    )
    assert "(sources/wrong/01_addition.py:1) passes every check: strengthen the check" in said[2]
    assert "stops the check in cell 6 with ValueError" in said[3] and "not by AssertionError" in said[3]
    assert "'is no Python'" in said[4] and "stops by itself with NameError" in said[4]
    assert len(said) == 5 and "1 of 5 caught" in outcome.summary


def test_a_check_that_cannot_fail_and_a_solution_that_fails_are_told(mini):
    source = mini / "sources/solutions/01_addition.py"
    edit(source, "assert add(2, 3) == 5", "assert callable(add)")
    edit(source, "    assert add(number, -number) == 0", "    assert add")
    edit(source, "double(4) == 8", "double(4) == 9")
    outcome = test.prove_wrong_answers(rebuild(mini), one(load(mini), "solution"))
    first, second, last = lines(outcome)
    assert "gap 'add': the wrong answer 'subtracts'" in first and "passes every check" in first
    assert "'right for the visible case only'" in second and "passes every check" in second
    assert "the solution fails, a check of gap 'double': AssertionError: twice four is eight" in last


def test_a_trial_leaves_names_and_generators_of_random_numbers_as_they_were(mini):
    """A gap that binds its own name anew, checks that draw, and wrong answers that have drawn before."""
    source = mini / "sources/solutions/01_addition.py"
    edit(source, "# %% [markdown]\n# ## 1. Add", RANDOM + "# %% [markdown]\n# ## 1. Add")
    wrong = mini / "sources/wrong/01_addition.py"
    with wrong.open("a", encoding="utf-8") as file:
        for number in (2, 3):
            file.write(f'\n\n# %% gap="scale" why="{number}"\nvalues = [value * {number} for value in values]\n')
            file.write("random.random(), np.random.rand()\nleft = 1\n")
    outcome = test.prove_wrong_answers(rebuild(mini), one(load(mini), "solution"))
    assert lines(outcome) == [] and outcome.summary == "5 of 5 caught, 3 gaps"


RANDOM = """\
# %%
import random

import numpy as np

random.seed(0)
np.random.seed(0)
values = [1]

# %% gap="scale" stub="scale the values"
### BEGIN SOLUTION
values = [value * 10 for value in values]
### END SOLUTION

# %% check="scale" points=1
assert "left" not in globals() or values != [10]
assert values == [10], "ten times one is ten"
assert f"{random.random():.3f} {np.random.rand():.3f}" == "0.844 0.549", "the first draws after seed 0"

"""


def test_hidden_checks_and_the_smoke_parameters_are_part_of_the_proof(mini):
    """The second wrong answer to `add` is caught by the hidden check alone, which `most` makes empty when it is 0."""
    outcome = test.prove_wrong_answers(load(mini), one(load(mini), "solution"))
    assert lines(outcome) == [] and outcome.summary == "3 of 3 caught, 2 gaps"
    edit(mini / "sources/solutions/01_addition.py", "[1, 50] the largest", "[0, 50] the largest")
    edit(mini / "course.toml", "[topics.solution]", "[topics.solution]\nparameters.smoke = { most = 0 }")
    outcome = test.prove_wrong_answers(rebuild(mini), one(load(mini), "solution"))
    (message,) = lines(outcome)
    assert "'right for the visible case only'" in message and "passes every check" in message


def test_a_wrong_answer_that_never_ends_is_stopped_at_the_limit(mini, monkeypatch):
    edit(mini / "sources/wrong/01_addition.py", "return a - b", "while True: pass")
    monkeypatch.setattr(test, "request", with_limits(cpu_seconds=3.0))
    outcome = test.prove_wrong_answers(load(mini), one(load(mini), "solution"))
    (message,) = lines(outcome)
    assert "'subtracts'" in message and "ends the proof: Timeout: used more than 3 s of CPU time" in message


# ---------------------------------------------------------------------------------------------------------- proved
# before


SOLUTION, WRONG = "sources/solutions/01_addition.py", "sources/wrong/01_addition.py"


@pytest.mark.parametrize(
    "file, old, new, again",
    [
        (SOLUTION, "Write two functions.", "Write both functions.", []),
        (SOLUTION, "return a + b", "return b + a", ["outputs", "lab", "wrong"]),
        (SOLUTION, "return add(a, a)", "return 2 * a", ["outputs", "lab", "wrong"]),
        (SOLUTION, 'stub="return twice a"', 'stub="return 2 a"', ["outputs", "lab", "wrong"]),
        (WRONG, "return a - b", "return b - a", ["wrong"]),
        (WRONG, 'why="subtracts"', 'why="takes away"', ["wrong"]),
        ("course.toml", "smoke]\nabout", "smoke]\nabout", []),
        (
            "course.toml",
            "[topics.solution]",
            "[topics.solution]\nparameters.smoke = { most = 3 }",
            ["outputs", "lab", "wrong"],
        ),
    ],
)
def test_a_proof_is_done_again_when_something_that_it_depends_on_has_changed(mini, file, old, new, again):
    kinds = {"outputs": "solution", "lab": "lab", "wrong": "solution"}
    manifest = load(mini)
    before = {part: test.Proved(manifest).key(part, one(manifest, kind)) for part, kind in kinds.items()}
    edit(mini / file, old, new)
    manifest = rebuild(mini)
    after = {part: test.Proved(manifest).key(part, one(manifest, kind)) for part, kind in kinds.items()}
    assert [part for part in kinds if before[part] != after[part]] == again


def test_stored_outputs_and_the_rules_are_part_of_what_a_proof_depends_on(mini, monkeypatch):
    manifest = load(mini)
    lecture = one(manifest, "lecture")
    key = test.Proved(manifest).key("outputs", lecture)
    assert test.Proved(manifest).key("outputs", lecture) == key
    edit(lecture.path, '"3\\n"', '"4\\n"')
    assert test.Proved(manifest).key("outputs", lecture) != key
    edit(lecture.path, '"4\\n"', '"3\\n"')
    assert test.Proved(manifest).key("outputs", lecture) == key
    monkeypatch.setattr(test, "RULES", ())
    assert test.Proved(manifest).key("outputs", lecture) != key


def test_only_a_success_is_remembered_and_only_while_nothing_changes(mini):
    manifest = load(mini)
    lab, proved = one(manifest, "lab"), test.Proved(load(mini))
    key = proved.key("lab", lab)
    bad = test.Outcome("lab", lab, "stops nowhere")
    bad.add(None, "bad")
    proved.put(bad, key)
    assert proved.get("lab", lab) is None
    proved.put(test.Outcome("lab", lab, "stops well"), "the key of another time")
    assert proved.get("lab", lab) is None
    proved.put(test.Outcome("lab", lab, "stops well"), key)
    assert proved.get("lab", lab).summary == "stops well"
    assert proved.get("wrong", lab) is None
    (entry,) = (mini / "build" / "test" / "proved").rglob("*.json")
    entry.write_text("{")
    assert proved.get("lab", lab) is None


# ----------------------------------------------------------------------------------------------- interruptions and
# input


def test_a_notebook_that_is_missing_or_broken_is_one_line_before_anything_runs(mini, monkeypatch):
    for name in ("nbval_suite", "prove_lab", "prove_wrong_answers"):
        monkeypatch.setattr(test, name, lambda *arguments: pytest.fail("it ran"))
    lab = one(load(mini), "lab")
    lab.path.write_text("{", encoding="utf-8")
    with pytest.raises(CourseError, match=r"labs/01_addition.ipynb: expected a notebook in JSON"):
        run(load(mini))
    lab.path.unlink()
    with pytest.raises(CourseError, match=r"labs/01_addition.ipynb: no such file"):
        run(load(mini))
    rebuild(mini)
    edit(mini / "course.toml", "[topics.solution]", "[topics.solution]\nparameters.smoke = { mots = 3 }")
    with pytest.raises(
        CourseError,
        match=r"solutions/01_addition.ipynb: parameters.smoke in course.toml: unknown parameter mots \(.*did you mean "
        r"most\?",
    ):
        run(load(mini))


def test_a_set_flag_ends_a_proof_and_its_kernel(mini):
    edit(mini / "sources/lectures/01_addition.py", "total = sum(", "import time\ntime.sleep(600)\ntotal = sum(")
    manifest = rebuild(mini)
    lecture = one(manifest, "lecture")
    cancel = threading.Event()
    threading.Timer(4, cancel.set).start()
    before = set(psutil.Process().children(recursive=True))
    outcome = test.nbval_suite(manifest, lecture, cancel)
    assert len(lines(outcome)) == 1 and "ancelled" in lines(outcome)[0]
    assert set(psutil.Process().children(recursive=True)) <= before, "the template alone is left"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_nothing_is_left_when_the_command_is_killed(mini):
    edit(mini / "sources/lectures/01_addition.py", "total = sum(", "import time\ntime.sleep(600)\ntotal = sum(")
    rebuild(mini)
    code = (
        f"from course.execution import template; template.MODULES = {template.MODULES};"
        "import sys; from course.proving import test; from course.manifest import load; manifest = load(sys.argv[1]);"
        "test.test(manifest, manifest.select(['01/lecture']))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(mini)])
    deadline = time.monotonic() + 60
    family = []
    while len(family) < 3 and time.monotonic() < deadline:  # the template, nbval's process and its kernel
        time.sleep(0.2)
        family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) >= 3
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _gone, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
