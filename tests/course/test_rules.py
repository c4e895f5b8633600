"""The rules of the proof, with `exec` in the place of a kernel."""

import pytest

from course.notebook import typed_cells
from course.outcome import CellResult
from course.proving import rules
from course.proving.rules import Wrong


def code(source, **metadata):
    return {"cell_type": "code", "metadata": metadata, "source": source}


def typed(*cells):
    return typed_cells({"cells": list(cells)})


def ended(index, name, message=""):
    return CellResult(index, "", "failed", name, message)


TEXT = {"cell_type": "markdown", "metadata": {}, "source": "# Title"}


# ------------------------------------------------------------------------------------------- a lab as it is handed out

ADD = code("def add(a, b):\n    return a + b", gap="add")
ADD_STUB = code('def add(a, b):\n    raise NotImplementedError("return the sum")', gap="add")
ADD_CHECK = code("assert add(1, 2) == 3", check="add")
LAB = typed(TEXT, code("import math"), ADD_STUB, code("x = 1"), ADD_CHECK, code("y = add(2, 2)"))


@pytest.mark.parametrize("stopped", [2, 4])
def test_a_lab_stops_at_its_first_gap_or_at_the_first_use_of_it(stopped):
    assert rules.judge_handed_out(LAB, ended(stopped, "NotImplementedError", "return the sum")) is None


@pytest.mark.parametrize(
    "failure, words",
    [
        (ended(1, "ModuleNotFoundError", "No module named 'maths'"), "before the first gap 'add' (cell 3)"),
        (ended(1, "NotImplementedError", "return the sum"), "every cell above it must pass"),
        (ended(4, "NameError", "name 'add' is not defined"), "should come first"),
        (ended(4, "RuntimeError", "return the sum"), "where the NotImplementedError of the first gap 'add' (cell 3)"),
        (ended(4, "NotImplementedError", "no GPU kernel for this"), "which is not the stub of the first gap 'add'"),
        (ended(5, "NotImplementedError", "another gap's words"), "'return the sum' should come first"),
    ],
)
def test_a_lab_that_stops_elsewhere_or_otherwise_is_told(failure, words):
    problem = rules.judge_handed_out(LAB, failure)
    assert problem.cell == failure.index and words in problem.message


def test_a_lab_that_runs_to_its_end_is_told_unless_it_has_no_gap():
    problem = rules.judge_handed_out(LAB, None)
    assert problem.cell == 2 and "runs to its end without an error" in problem.message
    assert rules.judge_handed_out(typed(TEXT, code("x = 1")), None) is None
    problem = rules.judge_handed_out(typed(TEXT, code("1 / 0")), ended(1, "ZeroDivisionError", "division by zero"))
    assert "a lab without a gap must run to its end" in problem.message


def test_a_backend_may_wrap_the_words_of_the_stub():
    wrapped = ended(4, "NotImplementedError", "Could not infer the output shape:\nreturn the sum")
    assert rules.judge_handed_out(LAB, wrapped) is None


# -------------------------------------------------------------------------------------------------- wrong answers


def prove(solution, wrong):
    """Plan, execute with `exec`, judge."""
    solution = typed(*solution)
    steps = rules.plan(solution, wrong)
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
                failures[number] = ended(number, type(error).__name__, str(error))
                if not step.may_fail:
                    return rules.judge_wrong_answers(solution, wrong, steps, failures, number)
    return rules.judge_wrong_answers(solution, wrong, steps, failures)


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
    solution = typed(ADD, ADD_CHECK)
    steps = rules.plan(solution, [MINUS])
    at = next(number for number, step in enumerate(steps) if step.role == "answer")
    verdict = rules.judge_wrong_answers(
        solution, [MINUS], steps, {at: CellResult(at, "", "timeout", "Timeout", "still running")}, at
    )
    assert "the wrong answer 'subtracts' (sources/wrong/01.py:1) ends the proof: Timeout" in messages(verdict)[0]
    assert verdict.caught == 0


def test_without_wrong_answers_the_plan_is_the_solution():
    assert [step.source for step in rules.plan(LAB, [])] == [cell.source for cell in LAB[1:]]


def test_a_trial_runs_the_cells_up_to_the_last_check_of_its_gap():
    cells = [ADD, code("a = 1"), ADD_CHECK, code("b = 2", gap="b"), code("b", check="b"), ADD_CHECK, code("c = 3")]
    steps = [step for step in rules.plan(typed(*cells), [MINUS]) if step.answer is MINUS]
    assert [(step.role, step.cell) for step in steps] == [
        ("note", 0),
        ("answer", 0),
        ("between", 1),
        ("check", 2),
        ("between", 3),
        ("check", 5),
        ("restore", 0),
    ]
