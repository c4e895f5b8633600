"""Marks, tables and pages, from verdicts that are written here by hand."""

import csv
import io
import json
from fractions import Fraction

import pytest

from course.errors import CourseError
from course.grading import feedback, score, similarity
from course.grading.rebuild import Submission
from course.grading.release import Release


@pytest.fixture(scope="module")
def release(manifest, lab):
    return Release(manifest, lab)


def verdict(**statuses):
    ids = {"add": "add-check", "double": "double-check"}
    checks = {ids[name]: {"status": status, "text": f"{name} is {status}"} for name, status in statuses.items()}
    return {"checks": checks, "gaps": {}, "problem": None, "restarts": 0}


def marked(release, found, overrides=None, **more):
    submission = Submission(release.notebook.path, more.pop("name", "ada"), answers={"add": "x", "double": "y"}, **more)
    return submission, score.mark(submission, release, found, overrides or {})


def test_each_check_that_holds_gives_its_points(release):
    _, marks = marked(release, verdict(add="passed", double="failed"))
    assert [item.reached for item in marks.items] == [2, 0, 0]
    assert marks.total == 2 and marks.possible == 4 and marks.waiting == []


def test_thirds_add_up_to_a_whole(release):
    marks = score.Marks(
        "a", "b", [score.Item("x", "gap", Fraction(1, 3), Fraction(1, 3)) for _ in range(3)], [], [], None
    )
    assert marks.total == 1 and score.shown(marks.total) == "1"
    assert (
        score.shown(Fraction(1, 3)) == "1/3"
        and score.shown(Fraction(3, 2)) == "1.5"
        and score.shown(Fraction(1, 8)) == "0.125"
    )


def test_an_answered_question_waits_and_an_unanswered_one_is_zero(release):
    _, marks = marked(release, verdict(add="passed", double="passed"), questions={"order": "Because."})
    assert marks.waiting == ["order"] and marks.total == 3
    _, marks = marked(release, verdict(add="passed", double="passed"))
    assert marks.waiting == [] and marks.items[-1].notes == ["no answer"]


def test_what_could_not_be_graded_is_no_mark_and_never_full_marks(release):
    _, marks = marked(release, {**verdict(), "problem": "the judge ended"})
    assert marks.waiting == ["add", "double"] and marks.total == 0 and "not graded" in marks.flags
    _, marks = marked(release, verdict(add="hand", double="passed"))
    assert marks.waiting == ["add"] and marks.total == 1 and "by hand" in marks.flags


def test_a_file_that_cannot_be_read_is_zero_with_its_reason(release):
    _, marks = marked(release, None, problem="the file is empty")
    assert (
        marks.total == 0
        and marks.waiting == []
        and marks.problem == "the file is empty"
        and "unreadable" in marks.flags
    )


def test_a_person_has_the_last_word(release, tmp_path):
    path = tmp_path / "overrides.csv"
    path.write_text("submission,item,points,reason\nada,order,1/2,half of it\nada,double,1,\n\n", encoding="utf-8")
    known = {"ada": {"add": Fraction(2), "double": Fraction(1), "order": Fraction(1)}}
    overrides = score.read_overrides(path, known)
    _, marks = marked(release, verdict(add="passed", double="failed"), overrides["ada"], questions={"order": "x"})
    assert marks.total == Fraction(7, 2) and marks.waiting == []
    assert marks.items[-1].decided == "half of it" and "override" in marks.flags


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("bob,add,1,x", "no submission 'bob'"),
        ("ada,sum,1,x", "no item 'sum'"),
        ("ada,add,3,x", "0 to 2 points"),
        ("ada,add,-1,x", "0 to 2 points"),
        ("ada,add,many,x", "expected points"),
        ("ada,add,1/0,x", "expected points"),
        ("ada,add", "4 columns"),
    ],
)
def test_a_mistake_in_the_overrides_is_told_with_its_line(tmp_path, line, told):
    path = tmp_path / "overrides.csv"
    path.write_text(f"submission,item,points,reason\n{line}\n", encoding="utf-8")
    with pytest.raises(CourseError, match="line 2") as error:
        score.read_overrides(path, {"ada": {"add": Fraction(2)}})
    assert told in str(error.value)


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", " =1", "ada\n=2"])
def test_no_cell_of_the_table_is_a_formula(release, name):
    _, marks = marked(release, verdict(add="passed"), name=feedback.printable(name))
    rows = list(csv.reader(io.StringIO(feedback.grades_csv(release, [marks]))))
    assert len(rows) == 2, "a name does not break its line"
    assert all(not cell.lstrip().startswith(("=", "+", "-", "@")) for row in rows for cell in row)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b;rm -rf ~", "ä" * 300, "x\ny", "$(id)", "", ".", "CON\udcff"])
def test_every_name_becomes_a_plain_file_name(name):
    made = feedback.slug(name)
    assert len(made) < 80 and made.isascii() and "/" not in made and not made.startswith(".")
    assert made != feedback.slug(name + "x")


def test_a_page_runs_nothing_and_loads_nothing(release):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    submission, marks = marked(release, verdict(add="failed"), name=evil, notes=[evil])
    submission.answers["add"] = evil
    marks.items[0].checks[0].text = evil
    outputs = [[] for _ in release.lab_cells]
    outputs[release.gaps[0].index] = [
        {"kind": "text", "text": evil},
        {"kind": "image/png", "text": '"><script>alert(2)</script>'},
        {"kind": "image/svg+xml", "text": evil},
        {"kind": "text/html", "text": evil},
        {"kind": "error", "text": "\x1b[31m" + evil},
        {"kind": 3},
        "nonsense",
    ]
    page = feedback.student_page(release, submission, marks, {"status": "passed", "error": None, "cells": outputs})
    summary = feedback.summary_page(release, [marks], [similarity.Pair("add", evil, evil, 0.9)])
    for text in (page, summary):
        assert "<script" not in text and "<img src=x" not in text and "\x1b" not in text
        assert "default-src 'none'" in text


def test_a_page_shows_the_message_and_no_hidden_check(release):
    submission, marks = marked(release, verdict(add="failed", double="passed"))
    page = feedback.student_page(release, submission, marks, None)
    assert "add is failed" in page and "range(most)" not in page


def test_of_an_own_check_a_student_sees_neither_code_nor_words(manifest, lab, tmp_path):
    (tmp_path / "01_addition.py").write_text(
        '# %% check="add" points=2\nassert add(1, 1) == 2, "SECRET"\n', encoding="utf-8"
    )
    release = Release(manifest, lab, tmp_path)
    assert release.total == 6 and [check.id for check in release.checks_of("add")] == ["add-check", "add-own-1"]
    found = verdict(add="passed", double="passed")
    found["checks"]["add-own-1"] = {"status": "failed", "text": "SECRET"}
    submission, marks = marked(release, found)
    assert marks.total == 3
    assert "SECRET" not in feedback.student_page(release, submission, marks, None)
    assert "SECRET" not in feedback.grades_json(release, [marks], [])


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ('# %% check="sum" points=1\nassert True', "gap of the lab"),
        ("# %%\nassert True", "gap of the lab"),
        ('# %% check="add"\nassert True', "points"),
        ('# %% check="add" points=-1\nassert True', "points"),
        ('# %% check="add" points=1\nassert (', "line 1"),
    ],
)
def test_a_mistake_in_an_own_check_is_told(manifest, lab, tmp_path, cell, told):
    (tmp_path / "01_addition.py").write_text(cell + "\n", encoding="utf-8")
    with pytest.raises(CourseError, match=told):
        Release(manifest, lab, tmp_path)


def test_the_json_says_it_all_and_is_exact(release):
    _, marks = marked(release, verdict(add="passed", double="failed"))
    told = json.loads(feedback.grades_json(release, [marks], []))
    assert (
        told["submissions"][0]["total"] == "2" and told["submissions"][0]["items"][0]["checks"][0]["id"] == "add-check"
    )


LONG = """def add(a, b):
    carried = []
    for place in range(max(len(a), len(b))):
        carried.append((a[place], b[place], place % 3))
    while carried and carried[-1][0] == 0:
        carried.pop()
    return sum(x * 10 ** p + y * 10 ** (p + 1) for x, y, p in carried) if carried else None
"""


def test_renamed_and_commented_copies_are_found_and_others_are_not(release):
    copied = "# mine\n" + LONG.replace("carried", "stack").replace("place", "i")
    other = "def add(a, b):\n    from functools import reduce\n"
    other += "    return reduce(lambda x, y: x + y, [a, b], 0) - 0 * len(str(a)) + {1: 0}[1]\n"
    answers = {"ada": {"add": LONG}, "bob": {"add": copied}, "cy": {"add": other}}
    pairs = similarity.similar(release, answers)
    assert [(pair.first, pair.second) for pair in pairs] == [("ada", "bob")] and pairs[0].alike == 1


def test_what_everybody_writes_is_not_similar(release):
    same = {"add": "def add(a, b):\n    return a + b\n"}
    assert similarity.similar(release, {"ada": same, "bob": same}) == []
    assert similarity.similar(release, {str(number): {"add": LONG} for number in range(9)}) == []


@pytest.mark.parametrize("source", ["def (", "x" * 100_000, "(" * 5000, "\x00", ""])
def test_no_answer_stops_the_comparison(source):
    similarity.pieces(source)
