"""The rules of the proof, with `exec` in the place of a kernel."""

import pytest

from course.proving import proof
from course.proving.proof import Failure, Wrong


def code(source, **metadata):
    return {"cell_type": "code", "metadata": metadata, "source": source}


TEXT = {"cell_type": "markdown", "metadata": {}, "source": "# Title"}


# ------------------------------------------------------------------------------------------- a lab as it is handed out

ADD = code("def add(a, b):\n    return a + b", gap="add")
ADD_STUB = code('def add(a, b):\n    raise NotImplementedError("return the sum")', gap="add")
ADD_CHECK = code("assert add(1, 2) == 3", check="add")
STUB = Failure("NotImplementedError", "return the sum")
LAB = [TEXT, code("import math"), ADD_STUB, code("x = 1"), ADD_CHECK, code("y = add(2, 2)")]
SOLUTION = [TEXT, code("import math"), ADD, code("x = 1"), ADD_CHECK, code("y = add(2, 2)")]


@pytest.mark.parametrize("stopped", [2, 4])
def test_a_lab_stops_at_its_first_gap_or_at_the_first_use_of_it(stopped):
    assert proof.judge_handed_out(LAB, SOLUTION, stopped, STUB) is None


@pytest.mark.parametrize(
    "stopped, failure, words",
    [
        (1, Failure("ModuleNotFoundError", "No module named 'maths'"), "before the first gap 'add' (cell 3)"),
        (1, STUB, "every cell above it must pass"),
        (4, Failure("NameError", "name 'add' is not defined"), "should come first"),
        (4, Failure("RuntimeError", "return the sum"), "where the NotImplementedError of the first gap 'add' (cell 3)"),
        (4, Failure("NotImplementedError", "no GPU kernel for this"), "which is not the stub of the first gap 'add'"),
        (5, STUB, "should be in cell 3 or cell 5, the first to use"),
        (3, STUB, "is reached here, but should be in cell 3 or cell 5"),
    ],
)
def test_a_lab_that_stops_elsewhere_or_otherwise_is_told(stopped, failure, words):
    problem = proof.judge_handed_out(LAB, SOLUTION, stopped, failure)
    assert problem.cell == stopped and words in problem.message


def test_a_lab_that_runs_to_its_end_is_told_unless_it_has_no_gap():
    problem = proof.judge_handed_out(LAB, SOLUTION, None, None)
    assert problem.cell == 2 and "runs to its end without an error" in problem.message
    assert proof.judge_handed_out([TEXT, code("x = 1")], [], None, None) is None
    problem = proof.judge_handed_out([TEXT, code("1 / 0")], [], 1, Failure("ZeroDivisionError", "division by zero"))
    assert "a lab without a gap must run to its end" in problem.message


def test_a_backend_may_wrap_the_stub_s_words():
    wrapped = Failure("NotImplementedError", "Could not infer the output shape:\nreturn the sum")
    assert proof.judge_handed_out(LAB, SOLUTION, 4, wrapped) is None


def test_a_gap_that_leaves_its_name_undefined_is_known_by_the_solution_s_cell():
    solution = [code("total = sum(range(5))", gap="sum"), code("x = 1"), code("assert total == 10", check="sum")]
    assert proof.awaited([code("...", gap="sum"), *solution[1:]], 0, solution[0]["source"]) == [0, 2]


@pytest.mark.parametrize(
    "source, names",
    [
        ("a = b = 1\nc, (d, *e) = f", {"a", "b", "c", "d", "e"}),
        ("def f(x):\n    y = x\nasync def g(): pass\nclass H:\n    z = 1", {"f", "g", "H"}),
        ("import numpy as np, os.path\nfrom keras import layers, ops as o", {"np", "os", "layers", "o"}),
        ("for i in range(3):\n    last = i\nwith open('x') as file:\n    pass", {"i", "last", "file"}),
        ("squares = [n * n for n in range(3)]\nk = lambda m: m", {"squares", "k"}),
        ("if (n := 3) > [q := 1][0]:\n    pass", {"n", "q"}),
        ("any(seen := x for x in [1])", {"seen"}),
        ("a.b = 1\nc[0] = 2", set()),
        ("x: int = 1\ny += 1\n%matplotlib inline", {"x", "y"}),
        ("this is no Python", set()),
    ],
)
def test_names_that_a_cell_defines(source, names):
    assert proof.defined(source) == names


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["add(1, 2)", "add(3, 4)"], [0, 1]),
        (["x = 1", "print(add)"], [0, 2]),
        (["'add'", "# add", "other.add(1)", "add.cache"], [0, 4]),
        # The body of a function runs later: what uses the function may reach the stub, and so may what that makes.
        (["def twice(a):\n    return add(a, a)", "x = 1", "twice(3)", "add(1, 1)", "add(2, 2)"], [0, 3, 4]),
        (["f = lambda a: add(a, a)", "f(3)", "add(1, 1)"], [0, 2, 3]),
        (["class Net:\n    def call(self):\n        return add(1, 2)", "net = Net()", "net.call()"], [0, 2, 3]),
        # ... but these run at once.
        (["@add\ndef f(): pass"], [0, 1]),
        (["def f(a=add(1, 2)): pass"], [0, 1]),
        (["class C:\n    x = add(1, 2)"], [0, 1]),
        (["sorted([2, 1], key=lambda a: add(a, 0))"], [0, 1]),
        (["[add(a, a) for a in range(3)]"], [0, 1]),
        (["add = 3", "x = 1"], [0]),
    ],
)
def test_cells_that_may_reach_the_stub_of_a_function_first(cells, expected):
    assert proof.awaited([ADD_STUB, *map(code, cells)], 0, ADD["source"]) == expected


def test_objects_of_a_class_that_is_a_gap_may_reach_its_stub_later():
    stub = code('class Net:\n    def call(self):\n        raise NotImplementedError("x")', gap="net")
    lab = [stub, code("net = Net()"), code("x = 1"), code("y = net.call()"), code("print(y)")]
    assert proof.awaited(lab, 0, stub["source"]) == [0, 1, 3, 4]


# -------------------------------------------------------------------------------------------------- wrong answers


def prove(solution, wrong):
    """Plan, execute with `exec`, judge."""
    steps = proof.plan(solution, wrong)
    names, noted, failures = {}, None, {}
    for number, step in enumerate(steps):
        if step.role == "note":
            noted = dict(names)
        elif step.role == "restore":
            names = noted
        else:
            try:
                exec(step.source, names)
            except Exception as error:
                failures[number] = Failure(type(error).__name__, str(error))
                if not step.may_fail:
                    return proof.judge_wrong_answers(solution, wrong, steps, failures, number)
    return proof.judge_wrong_answers(solution, wrong, steps, failures)


def wrong(gap, source, why="a slip"):
    return Wrong(gap, why, source, "sources/wrong/01.py:1")


def messages(verdict):
    return [problem.message for problem in verdict.problems]


MINUS = wrong("add", "def add(a, b):\n    return a - b", "subtracts")


def test_a_wrong_answer_that_a_check_stops_is_caught_and_the_right_one_runs_after_it():
    verdict = prove([TEXT, ADD, ADD_CHECK, code("assert add(2, 2) == 4")], [MINUS])
    assert (messages(verdict), verdict.caught) == ([], 1)


def test_a_wrong_answer_that_passes_is_told_with_its_words_and_place():
    solution = [TEXT, ADD, code("assert add(3, 0) == 3", check="add")]
    verdict = prove(solution, [MINUS, wrong("add", "def add(a, b):\n    return b", "forgets a")])
    assert verdict.caught == 1 and verdict.problems[0].cell == 1
    assert messages(verdict) == [
        "gap 'add': the wrong answer 'subtracts' (sources/wrong/01.py:1) passes every check: strengthen the check, or "
        "take the "
        "answer away if it is right"
    ]


def test_a_later_check_of_the_gap_may_catch_it_and_another_gap_s_check_may_not():
    weak, strong = code("assert callable(add)", check="add"), code("assert add(1, 1) == 2", check="add")
    other = [code("def inc(a):\n    return add(a, 1)", gap="inc"), code("assert inc(1) == 2", check="inc")]
    zero = wrong("inc", "def inc(a):\n    return 0")
    assert prove([ADD, weak, *other, strong], [MINUS, zero]).caught == 2
    verdict = prove([ADD, weak, *other], [MINUS, zero])
    assert verdict.caught == 1 and "passes every check" in messages(verdict)[0]


def test_another_exception_than_assertionerror_catches_nothing_but_a_later_check_may():
    text = wrong("add", "def add(a, b):\n    return 'a'")
    loose = code("assert add(1, 2) + 1 == 4", check="add")
    verdict = prove([ADD, loose], [text])
    assert "stops the check in cell 2 with TypeError" in messages(verdict)[0]
    assert prove([ADD, loose, ADD_CHECK], [text]).caught == 1


def test_a_cell_between_gap_and_check_runs_and_must_not_be_what_fails():
    between = code("total = add(1, 2)\nassert isinstance(total, int), 'whole'")
    check = code("assert total == 3", check="add")
    assert prove([ADD, between, check], [MINUS]).caught == 1
    verdict = prove([ADD, between, check], [wrong("add", "def add(a, b):\n    return 1.5")])
    assert "cell 2, which is none, fails first with AssertionError: whole" in messages(verdict)[0]


def test_a_wrong_answer_that_fails_by_itself_catches_nothing():
    verdict = prove([ADD, ADD_CHECK], [wrong("add", "def add(a, b):\n    return a\nadd(1)")])
    assert "stops by itself with TypeError" in messages(verdict)[0] and verdict.caught == 0


def test_names_are_put_back_after_each_trial():
    start, gap = code("images = [255.0]"), code("images = [x / 255 for x in images]\nscale = 255", gap="scale")
    check = code("assert images == [1.0]\nassert 'leftover' not in globals()", check="scale")
    half = wrong("scale", "images = [x / 127.5 for x in images]\nleftover = 1")
    verdict = prove([start, gap, check], [half, half])
    assert (messages(verdict), verdict.caught) == ([], 2)


def test_a_check_that_the_solution_fails_ends_the_proof():
    hidden = code("assert add(1, 2) == 4, 'hidden'", check="add")
    verdict = prove([ADD, hidden, code("def f(): pass", gap="f"), code("f()", check="f")], [MINUS, wrong("f", "f = 1")])
    assert "the solution fails, a check of gap 'add': AssertionError: hidden" in messages(verdict)
    assert verdict.problems[-1].cell == 1 and verdict.caught == 1, "what ran before the end is still judged"


def test_gaps_without_wrong_answers_and_answers_without_gaps_are_told():
    verdict = prove(
        [ADD, ADD_CHECK, code("x = 1", gap="free"), code("y = 1", gap="unchecked")],
        [wrong("ad", "x = 1"), wrong("free", "x = 2")],
    )
    assert messages(verdict) == [
        "sources/wrong/01.py:1: a wrong answer to an unknown gap 'ad' (known: add, free, unchecked)",
        "gap 'free' has a wrong answer (sources/wrong/01.py:1) but no check that could catch it",
        "gap 'add' has no wrong answer that its checks must catch: write one in sources/wrong/",
    ]


def test_an_execution_that_ends_in_a_trial_blames_the_answer_on_trial():
    solution = [ADD, ADD_CHECK]
    steps = proof.plan(solution, [MINUS])
    at = next(number for number, step in enumerate(steps) if step.role == "answer")
    verdict = proof.judge_wrong_answers(solution, [MINUS], steps, {at: Failure("Timeout", "still running")}, at)
    assert "the wrong answer 'subtracts' (sources/wrong/01.py:1) ends the proof: Timeout" in messages(verdict)[0]
    assert verdict.caught == 0


def test_without_wrong_answers_the_plan_is_the_solution():
    assert [step.source for step in proof.plan(SOLUTION, [])] == [cell["source"] for cell in SOLUTION[1:]]


def test_a_trial_runs_the_cells_up_to_the_last_check_of_its_gap():
    cells = [ADD, code("a = 1"), ADD_CHECK, code("b = 2", gap="b"), code("b", check="b"), ADD_CHECK, code("c = 3")]
    steps = [step for step in proof.plan(cells, [MINUS]) if step.answer is MINUS]
    assert [(step.role, step.cell) for step in steps] == [
        ("note", 0),
        ("answer", 0),
        ("between", 1),
        ("check", 2),
        ("between", 3),
        ("check", 5),
        ("restore", 0),
    ]
