"""`course run`: what is executed and what is not, how it is judged and told, and that stopping it leaves nothing.

Most tests put something in the place of `course.execution.worker.spawn`, which has its own tests; some start real
kernels.
"""

import errno
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from course.errors import CourseError
from course.execution import run as module
from course.execution import template
from course.execution.client import RESULTS
from course.execution.run import Task, run
from course.execution.worker import Request
from course.manifest import load
from course.notebook import read_notebook
from course.outcome import Outcome, Result, failed, judge, limits, number
from course.parameters import Text
from course.reporting import junit, progress, report


@pytest.fixture
def course(mini):
    """The mini course with a second topic, so that there are four notebooks."""
    listed = (mini / "course.toml").read_text()
    again = (
        listed[listed.index("[[topics]]") :].replace("01_addition", "02_subtraction").replace("Addition", "Subtraction")
    )
    (mini / "course.toml").write_text(f"{listed}\n{again}")
    for kind in ("lectures", "solutions"):
        shutil.copy(mini / kind / "01_addition.ipynb", mini / kind / "02_subtraction.ipynb")
    return mini


class Fake:
    """Stands where `spawn` does: does what was said for the notebook, and writes down that it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.does: dict[str, object] = {}
        self.running = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, request, on_progress=None, cancel=None):
        with self.lock:
            self.requests.append(request)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self.one(request, on_progress, cancel)
        finally:
            with self.lock:
                self.running -= 1

    def one(self, request, on_progress, cancel):
        if on_progress is not None:
            on_progress({"cell": 4, "cells": 9, "heading": "Adding"})
        time.sleep(0.02)
        does = self.does.get(self.name(request), {})
        if callable(does):
            does = does(request, cancel)
        result = Result(request.notebook, "passed", None, 30.0, 12.0, 500_000_000, [], {"total": 6.0}, {"python": "3"})
        if "solutions" in request.notebook:
            result.metrics = {}
        for field, value in does.items():
            setattr(result, field, value)
        document = self.document(request)
        for cell in document["cells"]:
            if cell["cell_type"] == "code":
                cell.update(outputs=[], execution_count=1)
        return result, None if result.status == "cancelled" else json.dumps(document).encode()

    def document(self, request: Request) -> dict:
        return json.loads(Path(request.notebook).read_text())

    @staticmethod
    def name(request: Request) -> str:
        path = Path(request.notebook)
        return f"{path.stem[:2]}/{path.parent.name[:-1]}"

    @property
    def names(self) -> list[str]:
        return [self.name(request) for request in self.requests]


@pytest.fixture
def fake(monkeypatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(module, "spawn", made)
    return made


def go(root: Path, *selectors: str, profile: str = "smoke", overrides=None, **options) -> tuple[list[Outcome], str]:
    """The outcomes, and what was printed."""
    manifest = load(root)
    console = Console(file=io.StringIO(), width=150, highlight=False)
    outcomes = run(manifest, manifest.select(list(selectors)), profile, overrides, console=console, **options)
    return outcomes, console.file.getvalue()


def result_of(root: Path, name: str = "lectures/01_addition", profile: str = "smoke") -> dict:
    return json.loads((root / "build" / "run" / profile / f"{name}.json").read_text())


# ------------------------------------------------------------------------------------------- what is executed, and how


def test_each_notebook_is_executed_once_and_then_never_again(course, fake):
    outcomes, _ = go(course)
    assert sorted(fake.names) == ["01/lecture", "01/solution", "02/lecture", "02/solution"]
    assert [outcome.notebook.id for outcome in outcomes] == ["01/lecture", "01/solution", "02/lecture", "02/solution"]
    assert failed(outcomes) == [] and not any(outcome.cached for outcome in outcomes)
    written = [(course / "build/run/smoke/lectures/01_addition.ipynb").read_bytes(), result_of(course)]
    assert written[1]["metrics"] == {"total": 6.0} and written[1]["cached"] is False
    again, _ = go(course)
    assert len(fake.requests) == 4
    assert all(outcome.cached and outcome.good for outcome in again)
    assert [asdict(a.result) for a in again] == [asdict(b.result) for b in outcomes]
    shutil.rmtree(course / "build/run")
    go(course)
    assert len(fake.requests) == 4
    assert json.loads((course / "build/run/smoke/lectures/01_addition.ipynb").read_bytes()) == json.loads(written[0])
    assert result_of(course) == {**written[1], "cached": True}


def test_fresh_runs_all_the_same(course, fake):
    go(course, "01")
    go(course, "01", fresh=True)
    assert len(fake.requests) == 4


def test_the_time_in_the_record_is_that_of_the_run(course, fake):
    go(course, "01/lecture")
    path = course / "build/run/smoke/lectures/01_addition.json"
    before = path.stat().st_mtime
    time.sleep(0.05)
    go(course, "01/lecture")
    assert result_of(course)["cached"] is True
    assert path.stat().st_mtime == pytest.approx(before, abs=0.04)


def test_a_change_runs_the_changed_notebook_alone(course, fake):
    go(course)
    path = course / "lectures/02_subtraction.ipynb"
    path.write_text(path.read_text().replace("print(2 + 1)", "print(2 - 1)"))
    go(course)
    assert fake.names[4:] == ["02/lecture"]
    (course / "requirements.lock").write_text("keras==4\n")
    go(course)
    assert len(fake.requests) == 9


def test_a_result_is_not_kept_when_its_notebook_changed_meanwhile(course, fake):
    path = course / "lectures/01_addition.ipynb"

    def edit(request, cancel):
        path.write_text(path.read_text().replace("print(2 + 1)", "print(2 - 1)"))
        return {}

    fake.does["01/lecture"] = edit
    go(course, "01/lecture")
    fake.does.clear()
    go(course, "01/lecture")
    assert len(fake.requests) == 2


def test_a_notebook_that_failed_runs_again_and_the_others_do_not(course, fake):
    fake.does["01/lecture"] = {"status": "failed", "error": ERROR}
    outcomes, _ = go(course)
    assert [outcome.notebook.id for outcome in failed(outcomes)] == ["01/lecture"]
    assert result_of(course)["status"] == "failed"
    go(course)
    assert fake.names[4:] == ["01/lecture"]


def test_the_request(course, fake, monkeypatch):
    monkeypatch.chdir(course)
    monkeypatch.setenv("COURSE_DATA", "archives")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    go(course, "01/lecture")
    (order,) = fake.requests
    assert order.notebook == str(course / "lectures/01_addition.ipynb")
    assert (order.parameters, order.threads, order.cwd) == ({"repeats": 2}, 1, str(course / "lectures"))
    assert (order.cpu_seconds, order.wall_seconds) == (180.0, 300.0), "3 x 60 CPU seconds, 10 x half a minute"
    assert order.environment == {"COURSE_DATA": str(course / "archives"), "KERAS_BACKEND": "jax"}
    go(course, "01/lecture", profile="cpu")
    assert (fake.requests[1].parameters, fake.requests[1].cpu_seconds) == ({}, 360.0)


def test_parameters_of_the_command_line_come_last(course, fake):
    go(course, "01/lecture", overrides={"repeats": Text("3"), "label": Text("total")})
    assert fake.requests[0].parameters == {"repeats": 3, "label": "total"}
    assert result_of(course)["parameters"] == {"repeats": 3, "label": "total"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            {"repeats": Text("ten")},
            r"lectures/01_addition.ipynb: parameter repeats: expected int in \[1, 100\], got 'ten'",
        ),
        ({"repeats": 101}, "repeats: expected int in"),
        ({"repaets": 3}, "unknown parameter repaets .*did you mean repeats"),
        ({"most": 3}, "lectures/01_addition.ipynb: unknown parameter most"),
    ],
)
def test_a_wrong_parameter_is_told_before_anything_is_executed(course, fake, overrides, says):
    with pytest.raises(CourseError, match=says) as caught:
        go(course, overrides=overrides)
    assert caught.value.code == 2
    assert fake.requests == [] and not (course / "build/run").exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("{ repeat = 2 }", r"unknown parameter repeat \(known: repeats, label; did you mean repeats\?\)"),
        ('{ repeats = "two" }', r"parameter repeats: expected int in \[1, 100\], got 'two'"),
    ],
)
def test_a_wrong_parameter_of_a_profile_is_told_with_where_it_stands(course, fake, table, says):
    path = course / "course.toml"
    path.write_text(path.read_text().replace("{ repeats = 2 }", table))
    with pytest.raises(CourseError, match=f"lectures/01_addition.ipynb: parameters.smoke in course.toml: {says}"):
        go(course)
    if "two" in table:  # one that is given takes its place
        go(course, "01/lecture", overrides={"repeats": 3})
        with pytest.raises(CourseError, match=r"ipynb: parameter repeats: .* got 101"):
            go(course, "01/lecture", overrides={"repeats": 101})


def test_a_parameter_that_no_cell_reads(course, fake):
    path = course / "lectures/01_addition.ipynb"
    path.write_text(path.read_text().replace("print(label, total)", "print(total)"))
    with pytest.raises(CourseError, match="parameter label: no later cell reads it"):
        go(course, "01/lecture", overrides={"label": "total"})


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no such file .`course build`"), ("{", "expected a notebook in JSON")]
)
def test_a_notebook_that_is_none_costs_itself_and_is_misuse_when_it_is_all(course, fake, content, says):
    path = course / "solutions/02_subtraction.ipynb"
    path.unlink() if content is None else path.write_text(content)
    outcomes, said = go(course)
    assert [outcome.notebook.id for outcome in failed(outcomes)] == ["02/solution"]
    assert len(fake.requests) == 3 and re.search(f"solutions/02_subtraction.ipynb: {says}", said)
    with pytest.raises(CourseError, match=f"solutions/02_subtraction.ipynb: {says}"):
        go(course, "02/solution")


def test_a_notebook_that_garbles_itself_or_a_later_one_costs_those_alone(course, fake, monkeypatch):
    def garble(request, cancel):
        Path(request.notebook).write_text("{")
        (course / "lectures/02_subtraction.ipynb").write_text("[]")
        return {}

    fake.does["01/lecture"] = garble
    one = fake.one

    def as_the_real_one(request, on_progress, cancel):
        read_notebook(request.notebook)
        return one(request, on_progress, cancel)

    monkeypatch.setattr(fake, "one", as_the_real_one)
    document = (course / "lectures/01_addition.ipynb").read_text()
    monkeypatch.setattr(Fake, "document", lambda self, request: json.loads(document))
    outcomes, said = go(course, jobs=1)
    assert [outcome.notebook.id for outcome in failed(outcomes)] == ["01/lecture", "02/lecture"]
    assert "expected a notebook in JSON" in said and "without its cells" in said
    assert (course / "build/junit.xml").is_file()


def test_jobs(course, fake):
    fake.does = {name: {"wall_seconds": 5.0} for name in ("01/lecture", "02/lecture")}
    go(course, jobs=1)
    assert fake.most == 1 and fake.names == ["01/lecture", "01/solution", "02/lecture", "02/solution"]
    fake.most = 0
    go(course, jobs=3, fresh=True)
    assert fake.most == 3
    assert {name.split("/")[1] for name in fake.names[4:6]} == {"solution"}, "longest first, by the earlier run"


def test_fail_fast_leaves_the_rest(course, fake):
    fake.does["01/solution"] = {"status": "failed", "error": ERROR}
    outcomes, said = go(course, jobs=1, keep_going=False)
    assert fake.names == ["01/lecture", "01/solution"]
    assert [outcome.result.status for outcome in outcomes] == ["passed", "failed", "cancelled", "cancelled"]
    assert len(failed(outcomes)) == 3
    assert said.count("not run") == 2
    assert not (course / "build/run/smoke/lectures/02_subtraction.json").exists()


def test_fail_fast_cancels_what_runs(course, fake):
    def wait(request, cancel):
        assert cancel is not None
        deadline = time.monotonic() + 30
        while not cancel.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"status": "cancelled"}

    fake.does = {"01/lecture": {"metrics": {"total": 99.0}}, "01/solution": wait}
    outcomes, _ = go(course, "01", jobs=2, keep_going=False)
    assert [outcome.result.status for outcome in outcomes] == ["passed", "cancelled"]


# ------------------------------------------------------------------------------------------------------------- judging

ERROR = {
    "cell": 6,
    "cell_id": "abc123",
    "name": "ValueError",
    "value": "kernel 12 does not fit <8> & \x00\x1b",
    "traceback": "\n".join(f"line {number}" for number in range(50)) + "\nValueError: kernel 12 does not fit",
    "source": "total = sum([2 + 1] * repeats)",
}


@pytest.mark.parametrize(
    ("result", "problems"),
    [
        ({}, []),
        ({"cpu_seconds": 60.0, "peak_rss_bytes": 10**9}, []),
        ({"cpu_seconds": 66.0}, ["took 0.55 minutes (66 CPU seconds / 120), its budget is 0.5"]),
        ({"peak_rss_bytes": 1_250_000_000}, ["took 1.25 GB of memory at its peak, its budget is 1"]),
        ({"metrics": {"total": 5.0}}, []),
        ({"metrics": {"total": 7.0}}, []),
        ({"metrics": {"total": 7.001}}, ["metric total is 7.001, outside its band 5 to 7"]),
        ({"metrics": {"total": float("nan")}}, ["metric total is not a number, outside its band 5 to 7"]),
        ({"metrics": {}}, ["metric total is declared in course.toml, but no cell recorded it"]),
        (
            {"metrics": {"total": 6.0, "loss": 1.0}},
            ["metric loss was recorded, but course.toml does not declare it"],
        ),
        ({"status": "failed", "metrics": {}, "cpu_seconds": 1000.0}, []),
    ],
)
def test_judge(mini, result, problems):
    manifest = load(mini)
    given = {"status": "passed", "metrics": {"total": 6.0}, **result}
    assert judge(manifest.select(["01/lecture"])[0], manifest.profile("smoke"), Result("x", **given)) == problems


def test_on_other_data_bands_and_budgets_are_shown_and_not_judged(mini, capsys):
    manifest_file = mini / "course.toml"
    text = manifest_file.read_text().replace("[topics.lecture]\n", '[topics.lecture]\ndata = ["repeats"]\n')
    manifest_file.write_text(text)
    manifest = load(mini)
    lecture, smoke = manifest.select(["01/lecture"])[0], manifest.profile("smoke")
    said = Result("x", status="passed", metrics={"total": 99.0}, cpu_seconds=66.0, peak_rss_bytes=1_250_000_000)
    assert len(judge(lecture, smoke, said, {"repeats": 2})) == 3, "2 is the profile's own"
    assert judge(lecture, smoke, said, {"repeats": 3}) == []
    assert lecture.bands("smoke", {"repeats": 3}) == {"total": None}
    said.metrics = {}
    assert judge(lecture, smoke, said, {"repeats": 3}) == [
        "metric total is declared in course.toml, but no cell recorded it"
    ]
    (outcome,) = run(manifest, [lecture], "smoke", {"repeats": 5})
    assert outcome.good and not 5 <= outcome.result.metrics["total"] <= 7
    assert "not judged on other data" in " ".join(capsys.readouterr().out.split())


def test_numbers_are_shown_as_people_write_them():
    shown = {15470264320.0: "15,470,264,320", 0.8125: "0.8125", 2.791e-6: "2.791e-06", 212.0: "212", -3.0: "-3"}
    assert {value: number(value) for value in shown} == shown
    assert (number(float("nan")), number(1e300)) == ("not a number", "1e+300")
    assert (limits((5.0, 7.25)), limits((212.0, 212.0))) == ("5 to 7.25", "212")


def test_a_metric_without_a_band_in_this_profile_is_shown_not_judged(course, fake):
    listed = (course / "course.toml").read_text()
    (course / "course.toml").write_text(
        listed.replace("total = { cpu = [29, 31], smoke = [5, 7] }", "total = { cpu = [29, 31] }")
    )
    fake.does["01/lecture"] = {"metrics": {"total": 1234.0}}
    outcomes, said = go(course, "01/lecture")
    assert outcomes[0].good and "total" not in said, "a number that means nothing is not in the table"
    _, said = go(course, "01/lecture", verbose=True)
    assert "total 1,234 " in said


def test_what_leaves_its_band_or_budget_is_no_success_and_is_run_again(course, fake):
    fake.does["01/lecture"] = {"metrics": {"total": 8.0}}
    outcomes, said = go(course, "01/lecture")
    assert not outcomes[0].good and "metric total is 8, outside its band 5 to 7" in said
    outcomes, said = go(course, "01/lecture")
    assert len(fake.requests) == 2 and "unchanged" not in said
    listed = (course / "course.toml").read_text()
    (course / "course.toml").write_text(listed.replace("smoke = [5, 7]", "smoke = [5, 8]"))
    assert go(course, "01/lecture")[0][0].good and len(fake.requests) == 3
    assert go(course, "01/lecture")[0][0].cached and len(fake.requests) == 3
    (course / "course.toml").write_text(listed)  # what has passed fails by today's band: it is measured again
    fake.does.clear()
    outcomes, _ = go(course, "01/lecture")
    assert outcomes[0].good and not outcomes[0].cached and len(fake.requests) == 4


def test_a_metric_that_is_no_number_is_told_as_that(course, fake):
    fake.does["01/lecture"] = {"metrics": {}, "unreadable": {"total": "'six'"}}
    outcomes, _ = go(course, "01/lecture")
    assert outcomes[0].problems == ["metric total: expected a finite number, but a cell recorded 'six'"]


def test_two_runs_at_once_do_not_mix_their_results(course, fake):
    """Each run's notebook comes back by itself; nothing is read again from the folder that both write to."""
    both = threading.Barrier(2)

    def together(request, cancel):
        both.wait(30)
        return {"metrics": {"total": 5.0 + request.parameters["repeats"] / 10}}

    fake.does["01/lecture"] = together
    document = fake.document

    def marked_document(request):
        made = document(request)
        made["metadata"]["mark"] = request.parameters["repeats"]
        return made

    fake.document = marked_document
    runs = [
        threading.Thread(target=go, args=(course, "01/lecture"), kwargs={"overrides": {"repeats": n}}) for n in (3, 4)
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    entries = [
        json.loads(path.read_bytes().partition(b"\n")[2]) for path in (course / "build/cache/runs").rglob("*.json")
    ]
    marks = {entry["result"]["metrics"]["total"]: entry["notebook"]["metadata"]["mark"] for entry in entries}
    assert marks == {5.3: 3, 5.4: 4}


# ------------------------------------------------------------------------------------------------------------- telling


def test_plain_lines_where_there_is_no_terminal(course, fake):
    fake.does["01/solution"] = {"status": "timeout", "error": {**ERROR, "name": "Timeout", "value": "still running"}}
    _, said = go(course, "01", jobs=1)
    lines = said.split("\n")
    assert lines[:4] == [
        "01/lecture   started, takes about 30 s",
        "01/lecture   passed in 12 s",
        "01/solution  started, takes about 60 s",
        "01/solution  too slow after 12 s: cell 7: still running",
    ]
    assert "\x1b" not in said
    _, said = go(course, "01", jobs=1)
    assert said.startswith("01/lecture   unchanged since it passed\n01/solution  started, takes about 12 s\n")


def test_a_failure_is_told_in_words(course, fake):
    fake.does["01/lecture"] = {"status": "failed", "error": ERROR}
    _, said = go(course, "01/lecture", overrides={"label": "total"})
    told = said[said.index("\n01/lecture: ") :].split("\n")
    assert told[1] == (
        '01/lecture: lectures/01_addition.ipynb: failed in cell 7 [abc123], under "Adding": total = sum([2 + 1] * '
        "repeats)"
    )
    assert told[2].startswith("  ValueError: kernel 12 does not fit")
    assert told[3] == "    [...]" and told[4] == "    line 31", "the end of a long traceback is what helps"
    assert told[-2] == (
        "  to see it again: course run 01/lecture --profile smoke -p label total; "
        "executed so far: build/run/smoke/lectures/01_addition.ipynb"
    )


def test_an_error_of_the_course_itself_is_told_in_its_one_line(course, fake):
    line = "clothing-test.zip is not here: put it into COURSE_DATA, or take the set `digits`"
    fake.does["01/lecture"] = {"status": "failed", "error": {**ERROR, "name": "DataUnavailable", "value": line}}
    _, said = go(course, "01/lecture")
    assert f"\n  {line}\n" in said
    assert "line 49" not in said and "DataUnavailable" not in said


def test_the_table_shows_budgets_and_bands(course, fake):
    fake.does["01/lecture"] = {"cpu_seconds": 90.0, "metrics": {"total": 4.5}}
    _, said = go(course, "01")
    (row,) = [line for line in said.split("\n") if "│ 01/lecture " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["01/lecture", "attention", "0.75 of 0.5", "0.50 of 1", "total 4.5, NOT within 5 to 7"]
    assert "  took 0.75 minutes (90 CPU seconds / 120), its budget is 0.5" in said


def test_a_notebook_that_broke_off_is_not_asked_for_its_later_metrics(course, fake):
    fake.does["01/lecture"] = {"status": "failed", "error": ERROR, "metrics": {}}
    _, said = go(course, "01/lecture")
    assert "missing" not in said
    fake.does["01/lecture"] = {"metrics": {}}
    assert "total missing" in go(course, "01/lecture")[1]


def test_words_in_brackets_are_no_markup(course, fake):
    fake.does["01/lecture"] = {"status": "failed", "error": {**ERROR, "value": "[bold]x[/bold] [/nothing]"}}
    _, said = go(course, "01/lecture")
    assert "ValueError: [bold]x[/bold] [/nothing]" in said


def test_on_a_terminal_what_runs_is_seen(course, fake, monkeypatch):
    seen = []

    def look(request, cancel):
        time.sleep(0.6)
        return {}

    fake.does["01/lecture"] = look
    manifest = load(course)
    console = Console(file=io.StringIO(), width=150, force_terminal=True, color_system=None)
    picture = progress.Board._picture

    def remember(board):
        group = picture(board)
        plain = Console(file=io.StringIO(), width=150)
        plain.print(group)
        seen.append(plain.file.getvalue())
        return group

    monkeypatch.setattr(progress.Board, "_picture", remember)
    run(manifest, manifest.select(["01/lecture"]), "smoke", console=console)
    (running, *_) = [text for text in seen if "cell 5 of 9" in text]
    assert "01/lecture" in running and "of about 30 s" in running and "Adding" in running
    assert "0 of 1 notebooks done, about" in running and "left" in running
    assert "passed in 12 s" in console.file.getvalue()


def test_what_is_left(mini):
    manifest = load(mini)
    notebooks = manifest.notebooks()
    tasks = [Task(notebook, {}, None, seconds) for notebook, seconds in zip(notebooks, (100.0, 40.0))]
    board = progress.Board(notebooks, manifest.profile("smoke"), tasks, 2, Console(file=io.StringIO()))
    assert board.seconds_left() == 70
    board.start(tasks[0])
    assert board.seconds_left() == pytest.approx(100, abs=5), "one that runs is not shared"
    board.running[notebooks[0].id] = (tasks[0], time.monotonic() - 1000, {})
    assert board.seconds_left() == 20


# ----------------------------------------------------------------------------------------------------------- JUnit XML


def test_junit(course, fake):
    fake.does = {
        "01/lecture": {"metrics": {"total": 99.0}},
        "01/solution": {"status": "failed", "error": ERROR},
        "02/lecture": {"cpu_seconds": 600.0},
        "02/solution": {"status": "died", "error": {**ERROR, "name": "KernelDied", "value": "exit code 3"}},
    }
    go(course, jobs=1)
    text = (course / "build/junit.xml").read_bytes()
    suite = ET.fromstring(text).find("testsuite")
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "Mini course, profile smoke",
        "tests": "6",
        "failures": "3",
        "errors": "1",
        "skipped": "0",
    }
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert list(cases) == [
        ("01/lecture", "execution"),
        ("01/lecture", "metric total"),
        ("01/solution", "execution"),
        ("02/lecture", "execution"),
        ("02/lecture", "metric total"),
        ("02/solution", "execution"),
    ]
    assert len(cases["01/lecture", "execution"]) == 0
    assert (
        cases["01/lecture", "metric total"].find("failure").get("message")
        == "metric total is 99, outside its band 5 to 7"
    )
    failure = cases["01/solution", "execution"].find("failure")
    assert failure.get("type") == "ValueError"
    forbidden = 2 * "\N{REPLACEMENT CHARACTER}"
    assert failure.get("message") == f"cell 7: ValueError: kernel 12 does not fit <8> & {forbidden}"
    assert "line 49" in failure.text
    assert cases["02/lecture", "execution"].find("failure").get("message").startswith("took 5 minutes")
    assert cases["02/solution", "execution"].find("error").get("message") == "cell 7: exit code 3"


def test_junit_elsewhere_and_what_did_not_run(course, fake, tmp_path):
    fake.does["01/lecture"] = {"status": "failed", "error": ERROR}
    go(course, "01", jobs=1, keep_going=False, junit=tmp_path / "new" / "results.xml")
    suite = ET.parse(tmp_path / "new" / "results.xml").getroot().find("testsuite")
    assert suite.get("skipped") == "1" and not (course / "build/junit.xml").exists()


def test_xml_takes_any_text():
    every = "".join(map(chr, range(0x120))) + "\ud800\ufffe\U0001f600"
    element = ET.Element("a", b=junit.plain(every))
    element.text = junit.plain(every)
    again = ET.fromstring(ET.tostring(element, encoding="utf-8"))
    assert "\U0001f600" in again.get("b") and "<&>" not in again.get("b")


# --------------------------------------------------------------------------------------------- folders that refuse


def refuse(monkeypatch, code: int, when) -> None:
    """Let `tempfile` and `os.replace` fail for the paths for which `when` holds."""
    import tempfile

    error = OSError(code, os.strerror(code))

    def wrap(owner, name, place):
        before = getattr(owner, name)

        def wrapped(*arguments, **named):
            if when(str(place(arguments, named))):
                raise error
            return before(*arguments, **named)

        monkeypatch.setattr(owner, name, wrapped)

    wrap(tempfile, "TemporaryFile", lambda arguments, named: named.get("dir"))
    wrap(os, "replace", lambda arguments, named: arguments[1])


def test_a_folder_that_is_read_only_is_told_before_anything_is_executed(course, fake, monkeypatch):
    refuse(monkeypatch, errno.EROFS, lambda path: path.endswith("run/smoke/lectures"))
    with pytest.raises(
        CourseError, match=r"^build/run/smoke/lectures/01_addition.json: cannot be written: Read-only file system$"
    ):
        go(course)
    assert fake.requests == []


def test_a_file_in_the_place_of_the_folder(course, fake):
    shutil.rmtree(course / "build", ignore_errors=True)
    (course / "build").write_text("")
    with pytest.raises(
        CourseError,
        match=r"^build/run/smoke/lectures/01_addition.json: cannot be written: (Not a directory|File exists)$",
    ):
        go(course)


@pytest.mark.parametrize("name", ["lectures/01_addition.json", "lectures/01_addition.ipynb", "build/cache/runs/smoke"])
def test_a_disk_that_is_full_in_the_middle_costs_the_notebooks_that_cannot_be_kept(course, fake, monkeypatch, name):
    refuse(monkeypatch, errno.ENOSPC, lambda path: name in path)
    outcomes, said = go(course, "01", jobs=2)
    lost = ["01/lecture"] if "lectures" in name else ["01/lecture", "01/solution"]
    assert [outcome.notebook.id for outcome in failed(outcomes)] == lost
    assert re.search(f"{name}.*: cannot be written: No space left on device", said)
    assert not [path for path in (course / "build").rglob(".*") if path.is_file()], "no half of a file is left"


# ------------------------------------------------------------------------------------------------- real processes


def replace_code(path: Path, old: str, new: str) -> None:
    document = json.loads(path.read_text())
    for cell in document["cells"]:
        source = "".join(cell["source"])
        if old in source:
            cell["source"] = source.replace(old, new)
            path.write_text(json.dumps(document))
            return
    raise AssertionError(f"no cell with {old}")


def test_a_kernel_that_dies_costs_its_own_notebook_only(mini):
    replace_code(mini / "solutions/01_addition.ipynb", "assert double(4)", "import os\nos._exit(7)\nassert double(4)")
    outcomes, said = go(mini, jobs=2)
    lecture, solution = outcomes
    assert lecture.good and lecture.result.metrics == {"total": 6.0}
    assert solution.result.status == "died" and "exit code 7" in said
    executed = json.loads((mini / "build/run/smoke/lectures/01_addition.ipynb").read_text())
    assert any(RESULTS in output.get("data", {}) for cell in executed["cells"] for output in cell.get("outputs", []))

    report.report(load(mini), "smoke")
    code = (
        "import sys\nfrom course.manifest import load\nfrom course.reporting.report import report\nfrom "
        "course.execution.run import run\n"
        "manifest = load(sys.argv[1])\n(outcome,) = run(manifest, manifest.select(['01/lecture']), 'smoke')\n"
        "report(manifest, 'smoke')\nprint(outcome.cached, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(mini)], capture_output=True, text=True)
    cached, *loaded = done.stdout.strip().split("\n")[-1].split()
    assert cached == "True"
    heavy = {"papermill", "nbformat", "nbclient", "jupytext", "psutil", "numpy", "keras"}
    heavy |= {"nbconvert", "bs4", "mistune", "latex2mathml", "pygments.lexers", "PIL"}  # to make a page
    assert not heavy & set(loaded), "a run that executes nothing, and its report, import nothing heavy"


WAITS = (
    "import subprocess, time\n"
    "lost = subprocess.Popen(['sh', '-c', '(setsid sleep 1000 &)'])\n"
    "lost.wait()\n"
    "open('ready', 'w').close()\n"
    "time.sleep(1000)\n"
    "print(label, total)"
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_stopping_the_command_leaves_no_process_and_keeps_what_passed(mini, number, code):
    replace_code(mini / "lectures/01_addition.ipynb", "print(label, total)", WAITS)
    mark = uuid.uuid4().hex
    program = "from course.execution import template\nfrom course.cli import main\n"
    program += f"template.MODULES = {template.MODULES}\nmain()"
    command = [sys.executable, "-c", program, "--root", str(mini), "run", "--profile", "smoke", "--jobs", "2"]
    parent = subprocess.Popen(
        command,
        env={**os.environ, "COURSE_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # In the background of a shell SIGINT is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    kept = mini / "build/cache/runs/smoke/solutions/01_addition"
    try:
        assert wait_for(lambda: (mini / "lectures/ready").exists() and list(kept.glob("*.json")))
        assert len(marked(mark)) >= 4, "the command, its process, the kernel, and what the notebook started"
        parent.send_signal(number)
        _, wrong = parent.communicate(timeout=60)
        assert parent.returncode == code
        assert number == signal.SIGKILL or not marked(mark), "it waits for its processes"
        assert wait_for(lambda: not marked(mark), 30), marked(mark)
    finally:
        for process in marked(mark):
            process.kill()
        parent.wait()
    if number != signal.SIGKILL:
        name = "interrupted" if number == signal.SIGINT else "terminated"
        told = f"course: {name} after 1 of 2 notebooks; what has passed is kept, and the next run goes on from there\n"
        assert wrong == told
    assert not (mini / "build/run/smoke/lectures/01_addition.json").exists()
    outcomes, _ = go(mini, "01/solution")
    assert outcomes[0].cached, "the next run goes on from there"


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("COURSE_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(condition, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# ---------------------------------------------------------------------------------------------------------------- Dask


def test_dask_without_its_package_or_its_address_is_one_line(course, monkeypatch):
    with pytest.raises(CourseError, match="--executor dask needs --scheduler ADDRESS"):
        go(course, executor="dask")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CourseError, match="needs the extra `dask`: pip install"):
        go(course, executor="dask", scheduler="tcp://host:8786")
    with pytest.raises(CourseError, match="unknown executor 'slurm'"):
        go(course, executor="slurm")


def test_junit_is_written_through_a_device_and_tried_before_anything_runs(course, fake, tmp_path):
    go(course, "01/lecture", junit="/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    time.sleep(0.2)
    go(course, "01/lecture", junit=pipe)
    reader.join(10)
    link = tmp_path / "link.xml"
    link.symlink_to(tmp_path / "real.xml")
    go(course, "01/lecture", junit=link)
    assert link.is_symlink() and (tmp_path / "real.xml").read_bytes().startswith(b"<?xml")
    ran = len(fake.requests)
    for path in (tmp_path, "/dev/null/x.xml", tmp_path / "real.xml" / "x.xml", "a\0b"):
        with pytest.raises(CourseError, match="cannot be written"):
            go(course, "01/lecture", fresh=True, junit=path)
    assert len(fake.requests) == ran, "told before anything runs"
