"""Which statements each side runs, and which functions of `utils` are taken away."""

import importlib.util
import struct
import sys

import pytest

from course.grading import plan, withholding
from course.grading.inside import seccomp
from course.grading.release import Release, plan_answer


def kept(*cells):
    """What of the given cells is kept; a cell that begins with `!` runs whole."""
    told = [(number, text.removeprefix("!"), text.startswith("!")) for number, text in enumerate(cells)]
    return {number: source for number, source in plan.kept(told).items() if source}


def test_what_is_read_is_kept_and_what_is_drawn_is_not():
    assert kept("a = 1\nb = 2\nprint(a)\nplots.show(a)", "!c = a") == {0: "a = 1"}


def test_a_loop_that_draws_is_no_source_of_values():
    assert kept("axes = plots.axes()", "for ax, x in zip(axes, (1, 2)):\n    ax.set(x)", "!f = lambda: x") == {}
    assert 0 in kept("for x in (1, 2):\n    pass", "!f = lambda: x")


def test_a_chain_is_followed_backwards_through_functions():
    assert kept("a = 1", "def f():\n    return a", "b = f()", "x = 3", "!assert b") == {
        0: "a = 1",
        1: "def f():\n    return a",
        2: "b = f()",
    }


def test_a_function_may_read_what_is_bound_after_it():
    assert kept("def f():\n    return later", "later = 2", "!f()") == {0: "def f():\n    return later", 1: "later = 2"}


def test_what_a_cell_binds_itself_need_not_be_made_before():
    assert kept("x = slow()", "!x = 1\nassert x") == {}
    assert kept("x = slow()", "!assert x\nx = 1") == {0: "x = slow()"}


def test_a_later_value_is_not_needed_earlier():
    assert kept("x = 1", "!assert x", "x = slow()") == {0: "x = 1"}


@pytest.mark.parametrize(
    "change",
    ["a[0] = 2", "a.b = 2", "a += [2]", "a.append(2)", "for k in range(2):\n    a[k] = k", "np.add.at(a, 0, 1)"],
)
def test_a_change_in_place_is_kept(change):
    assert kept("import numpy as np", "a = [1]", change, "!assert a")[2] == change


def test_a_model_may_be_trained_by_a_call():
    assert kept("model = build()", "values = train(model)", "!assert model.ok")[1] == "values = train(model)"
    assert kept("import games\nplayer = build()", "values = games.learn_to_play(player)", "!assert player.ok")[1]
    assert 1 not in kept("images = load()", "values = show_them(images)", "!assert images")


def test_a_call_whose_result_nobody_takes_is_there_for_what_it_changes():
    for call in ("compile_it(reader, 3)", "training.compile_it(reader)", "fill(of=reader)"):
        assert kept("from utils import training", "reader = build()", call, "!assert reader")[2] == call
    for call in ("plots.show(reader)", "print(reader)", "other(3)"):
        assert 2 not in kept("from utils import plots", "reader = build()", call, "!assert reader")


def test_seeds_are_kept():
    assert kept("session.start(seed)", "!x = 1") == {0: "session.start(seed)"}


def test_comprehension_variables_are_nobody_elses():
    assert kept("name = slow()", "!y = [name for name in (1, 2)]") == {}


def test_names_of_functions_own_variables_are_not_read():
    assert plan.names_in("def f(x):\n    y = x + z\n    return y") == {"z"}
    assert plan.names_in("def (") == frozenset()


def test_magics_are_left_out_of_an_answer():
    assert plan_answer("%matplotlib inline\nx = 1\n!ls") == "pass\nx = 1\npass"
    assert plan_answer("x = 5 %2") == "x = 5 %2"


def test_the_program_of_the_mini_lab(manifest, lab):
    steps = Release(manifest, lab).program({"add": "def add(a, b):\n    return 1"})
    kinds = [(step["kind"], step["gap"]) for step in steps if "gap" in step]
    assert kinds == [
        ("gap", "add"),
        ("check", "add"),
        ("end", "add"),
        ("gap", "double"),
        ("check", "double"),
        ("end", "double"),
    ]
    by_gap = {step["gap"]: step for step in steps if step["kind"] == "gap"}
    assert by_gap["add"]["answer"] == "def add(a, b):\n    return 1"
    assert "NotImplementedError" in by_gap["double"]["answer"], "what was not handed in is the stub"


def test_a_fingerprint_changes_with_what_marks_depend_on(manifest, lab):
    release = Release(manifest, lab)
    before = release.fingerprint()
    assert Release(manifest, lab).fingerprint() == before
    release.parameters = {"most": 3}
    assert release.fingerprint() != before


@pytest.fixture
def package(tmp_path):
    """A `utils` in small: a reference, a tool that two gaps' checks use, a helper that given cells need, what checks
    compare with.
    """
    root = tmp_path / "utils"
    (root / "maths").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "checks.py").write_text("def agree(a, b):\n    return a == b\n")
    (root / "maths" / "__init__.py").write_text("from utils.maths.sums import add, sums_up, measure\n")
    (root / "maths" / "sums.py").write_text(
        'def add(a, b):\n    """Sum."""\n    return a + b\n\n\ndef twice(a):\n    return a * 2\n\n\n'
        "def sums_up(values):\n    return twice(values[0])\n\n\ndef measure(x):\n    return x\n"
    )
    return root


def test_references_are_taken_away_and_tools_stay(package, manifest, lab, monkeypatch):
    release = Release(manifest, lab)
    cells = {cell.role + cell.name: cell for cell in release.cells}
    head = "from utils import checks, maths\n"
    for role, source in {
        "checkadd": "assert checks.agree(add(1, 2), maths.add(1, 2)) == maths.measure(True)",
        "checkdouble": "maths.measure(1)",
    }.items():
        object.__setattr__(cells[role], "source", head + source)
    release.checks = [
        check.__class__(c.id, c.name, check.points, c.source, c.index)
        for check, c in zip(release.checks, (cells["checkadd"], cells["checkdouble"]))
    ]
    assert withholding.withheld(release, package) == {"maths/sums.py": ["add"]}
    release.__dict__.pop("_judged", None)
    for call in ("checks.own_work(of=maths, names=ready)", "partial(checks.own_work, of=maths, names={'sums_up'})"):
        object.__setattr__(cells["checkdouble"], "source", f"{head}ready = {{'sums_up'}}\nown_work = {call}")
        assert "sums_up" in withholding.withheld(release, package)["maths/sums.py"]
        source = head + f"ready = {{'sums_up'}}\nown_work = {call.replace('of=maths', 'of=checks')}"
        object.__setattr__(cells["checkdouble"], "source", source)
        assert withholding.withheld(release, package) == {"maths/sums.py": ["add"]}, "names of that package alone"
    source = "ready = {'sums_up'}\nown_work = checks.own_work(of=maths, names=ready)"
    object.__setattr__(cells["checkdouble"], "source", head + source)
    assert withholding.withheld(release, package) == {"maths/sums.py": ["add", "sums_up"]}, (
        "what the lab forbids by name"
    )
    monkeypatch.setattr(release, "supporting", lambda: [head + "maths.add(0, 0), maths.sums_up([1])"])
    assert withholding.withheld(release, package) == {"maths/sums.py": ["sums_up"]}, "what given cells need stays"
    monkeypatch.setattr(release, "answering", lambda: [head + "maths.sums_up([1])"])
    assert withholding.withheld(release, package) == {}, "what right answers need stays"


def test_a_function_taken_away_says_why(package, tmp_path, monkeypatch):
    withholding.copy_without(package, tmp_path / "copy", {"maths/sums.py": ["add"]})
    spec = importlib.util.spec_from_file_location("sums", tmp_path / "copy" / "maths" / "sums.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(NotImplementedError, match="asks you to do without it"):
        module.add(1, 2)
    assert module.sums_up([4]) == 8 and "a + b" not in (tmp_path / "copy" / "maths" / "sums.py").read_text()


# ------------------------------------------------------------------------------------- the filter of system calls


def verdict_of(machine, number, architecture, argument=0):
    """What the filter's program says of a call: an interpreter of the few instructions of classic BPF that it uses."""
    lines = [
        struct.unpack_from("<HBBI", seccomp.program(machine), 8 * index)
        for index in range(len(seccomp.program(machine)) // 8)
    ]
    data = struct.pack("<IIQQ", number, architecture, 0, argument)
    place = accumulator = 0
    while True:
        code, yes, no, value = lines[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            place += yes if holds else no


ALLOWED, KILLED, REFUSED, UNKNOWN = 0x7FFF0000, 0x80000000, 0x50001, 0x50026


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", 0xC000003E, 0), ("aarch64", 0xC00000B7, 1)])
def test_the_filter_refuses_what_its_table_says_and_nothing_else(machine, architecture, column):
    refused = {numbers[column] for numbers in seccomp.REFUSED.values()}
    assert len(refused) == len(seccomp.REFUSED), "no number stands for two calls"
    special = {seccomp.CLONE[column], seccomp.CLONE3[column], seccomp.SOCKET[column]}
    for number in range(500):
        if number not in special:
            assert verdict_of(machine, number, architecture) == (REFUSED if number in refused else ALLOWED), number
    assert verdict_of(machine, seccomp.CLONE3[column], architecture) == UNKNOWN
    assert verdict_of(machine, seccomp.CLONE[column], architecture, 0x3D0F00) == ALLOWED, "a thread"
    assert verdict_of(machine, seccomp.CLONE[column], architecture, 0x10000011) == REFUSED, "a user namespace"
    for family, expected in (
        (1, ALLOWED),
        (2, ALLOWED),
        (10, ALLOWED),
        (16, ALLOWED),
        (17, REFUSED),
        (38, REFUSED),
        (40, REFUSED),
    ):
        assert verdict_of(machine, seccomp.SOCKET[column], architecture, family) == expected, family
    assert verdict_of(machine, 0, architecture ^ 1) == KILLED
    if machine == "x86_64":
        assert verdict_of(machine, 0x40000000, architecture) == KILLED, "the x32 ABI"


def test_a_machine_without_a_table_is_told():
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.program("riscv64")


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are Linux's")
def test_the_numbers_are_the_systems_own():
    """Against the C library's header, where one is installed."""
    import platform
    import re
    import subprocess

    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("no column for this machine")
    try:
        done = subprocess.run(
            ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-"], input="", capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no C compiler here")
    if done.returncode:
        pytest.skip("no header of system calls here")
    numbers = {name: int(value) for name, value in re.findall(r"#define __NR_(\w+) (\d+)\n", done.stdout)}
    column = 0 if platform.machine() == "x86_64" else 1
    table = {**seccomp.REFUSED, "clone": seccomp.CLONE, "clone3": seccomp.CLONE3, "socket": seccomp.SOCKET}
    for name, known in table.items():
        if name in numbers:
            assert known[column] == numbers[name], name
