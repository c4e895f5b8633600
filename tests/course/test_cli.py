"""The command line: what it calls, what it exits with, and one line for every mistake."""

import os
import re
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from course.cli import _joined, main
from course.errors import CourseError
from course.parameters import Text

REPOSITORY = Path(__file__).parents[2]
COMMANDS = ("build", "check", "run", "calibrate", "start", "test", "grade", "report", "compare", "doctor")
# What makes a command slow to answer. Help, misuse and a broken manifest must do without.
HEAVY = (
    "jupytext",
    "nbformat",
    "papermill",
    "nbclient",
    "nbconvert",
    "nbval",
    "psutil",
    "rich",
    "numpy",
    "keras",
    "tensorflow",
)


@pytest.fixture
def course(mini, monkeypatch, capsys):
    """Call the command line on the mini course: exit code, standard output, standard error."""
    monkeypatch.chdir(mini)
    monkeypatch.delenv("COURSE_ROOT", raising=False)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# --------------------------------------------------------------------------------------------------------- help, misuse


def test_help_lists_each_command_in_words_that_fit_a_line(course):
    code, out, _ = course("--help")
    lines = out.partition("Commands:")[2].strip().splitlines()
    assert code == 0 and "Examples:" in out
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert not [line for line in lines if line.endswith("...")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(course, command):
    for flag in ("--help", "-h"):
        code, out, err = course(command, flag)
        assert (code, err) == (0, "")
        assert re.search(rf"Examples:\n +course {command}\b", out)
        assert "--root FOLDER" in out


def test_help_lists_the_commands(course):
    code, out, _ = course("--help")
    assert code == 0
    assert [line.split()[0] for line in out.split("Commands:")[1].strip().split("\n")] == list(COMMANDS)
    assert course() == (code, out, "")


def test_the_examples_are_real(course):
    """Every example names commands and options that its own help lists."""
    for command in COMMANDS:
        out = course(command, "--help")[1]
        start, options = out.split("Options:")
        for line in re.findall(r"^ +(course .*?)(?:  +.*)?$", start.split("Examples:")[1], re.MULTILINE):
            words = line.split()
            assert words[1] == command
            assert all(re.search(rf"{re.escape(word)}\b", options) for word in words if word.startswith("-")), line


MISUSE = [
    (
        ["rnu"],
        "no such command 'rnu' (known: build, check, run, calibrate, start, test, grade, report, compare, doctor; did "
        "you mean run?)",
    ),
    (["--root", ".", "chekc"], "did you mean check?"),
    (["build", "--chek"], "(`course build --help` shows what there is)"),
    (["run", "--jobs", "0"], "--jobs"),
    (["run", "--jobs", "many"], "--jobs"),
    (["run", "--kind", "lectures"], "value for '--kind': 'lectures' is not one of 'lecture', 'solution', 'lab' ("),
    (["run", "--executor", "moon"], "--executor"),
    (["run", "--profile"], "--profile"),
    (["run", "--profile", "smok"], "unknown profile 'smok' (known: cpu, smoke; did you mean smoke?)"),
    (["report", "--profile", "real"], "unknown profile 'real' (known: cpu, smoke)"),
    (["run", "-p", "repeats"], "-p repeats: expected -p NAME VALUE, such as -p epochs 3"),
    (["run", "-p"], "-p"),
    (["run", "-p", "a b", "3"], "-p a b: expected -p NAME VALUE"),
    (["run", "--scheduler", "tcp://x:1"], "--scheduler goes with --executor dask"),
    (["run", "-p", "label", "\udcff"], r"expected UTF-8 text, got b'\xff'"),
    (["build", "\udcff.ipynb"], r"expected UTF-8 text, got b'\xff.ipynb'"),
    (["run", "--junit", "."], ".: cannot be written: Is a directory"),
    (["run", "--junit", "/dev/null/x.xml"], "/dev/null/x.xml: cannot be written: "),
    (["calibrate", "--seeds", "few"], "--seeds few: expected how many, such as 5, or which, such as 0,10,20"),
    (["calibrate", "01/lab"], "a lab records nothing"),
    (["start", "01/lecture"], "01/lecture is no lab: name the topic, such as `course start 01`"),
    (["start"], "missing argument"),
    (["run", "02"], "no topic '02' (known: 01_addition)"),
    (["build", "additon"], "no topic 'additon' (known: 01_addition; did you mean 01_addition?)"),
    (["check", "labs/02.ipynb"], "no notebook 'labs/02.ipynb' in this course"),
    (["build", "--root", "nowhere"], "no course.toml in nowhere (--root must name the folder of the course)"),
    (["--root", "nowhere", "build"], "no course.toml in nowhere"),
    (["doctor", "now"], "now"),
    (["test", "--only", "labs"], "--only"),
    (["grade", "submissions"], "--lab"),
    (["grade", "submissions", "--lab", "02"], "no topic '02' (known: 01_addition)"),
    (["grade", "submissions", "--lab", "01/lecture"], "--lab names a lab, such as 07"),
    (["grade", "submissions", "--lab", "01", "--scheduler", "tcp://x:1"], "--scheduler goes with --executor dask"),
    (["test", "--update", "--only", "lab"], "--update goes without --only"),
]


@pytest.mark.parametrize(("arguments", "message"), MISUSE, ids=[" ".join(arguments) for arguments, _ in MISUSE])
def test_misuse_is_one_line_and_code_2(course, arguments, message):
    code, out, err = course(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("course: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_manifest_is_one_line_in_every_command(course, mini, command):
    edit(mini / "course.toml", "minutes = 1", 'minutes = "one"')
    needed = {"start": ["01"], "grade": ["submissions", "--lab", "01"], "compare": ["before", "after"]}
    code, out, err = course(command, *needed.get(command, []))
    assert (code, out) == (2, "")
    assert err == "course: course.toml: topics[0].solution.minutes: expected a number, got 'one'\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["rnu"], ["run", "--profile", "x"], ["check"], ["run"]]
)
def test_help_misuse_and_a_broken_manifest_import_nothing_heavy(mini, arguments):
    if arguments in (["check"], ["run"]):
        edit(mini / "course.toml", "[course]", "[curse]")
    code = (
        "import sys\nfrom course.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        f"    print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=mini,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if "--help" in arguments else 2)
    assert done.stderr.endswith("HEAVY []\n")


# ------------------------------------------------------------------------------------------------------ build and check


def test_build(course, mini):
    assert course("build") == (0, "3 notebooks, 0 written\n", "")
    edit(mini / "sources/lectures/01_addition.py", "two numbers", "three numbers")
    code, out, err = course("build", "--check")
    assert (code, out) == (1, "")
    assert err.startswith('course: lectures/01_addition.ipynb: cell 1 ("# 01 Addition") differs from its source')
    assert course("build", "01") == (0, "wrote lectures/01_addition.ipynb\n3 notebooks, 1 written\n", "")
    assert course("build", "--check") == (0, "3 notebooks, all as their sources give them\n", "")


def test_build_from_elsewhere(course, mini, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert course("build", "--root", str(mini))[0] == 0
    assert course("--root", str(mini), "build")[0] == 0
    assert course("build")[0] == 2
    monkeypatch.setenv("COURSE_ROOT", str(mini))
    assert course("build")[0] == 0


def test_a_broken_source_is_told_once(course, mini):
    edit(mini / "sources/solutions/01_addition.py", " points=2", "")
    number = (mini / "sources/solutions/01_addition.py").read_text().split("\n").index('# %% check="add"') + 1
    line = f"course: sources/solutions/01_addition.py:{number}: expected points=NUMBER above 0, got none\n"
    assert course("build") == (2, "", line)
    assert course("build", "--check") == (2, "", line)


def test_check(course, mini):
    code, out, err = course("check")
    assert (code, err) == (0, "")
    assert out.startswith("3 notebooks, no findings")
    assert out.count("\n") == 1
    edit(mini / "course.toml", 'tag = "v1"', 'tag = "v2"')
    code, out, err = course("check", "01")
    assert (code, err) == (1, "")
    assert out.count(": opening: ") == 6
    assert out.split("\n")[-2].startswith("3 notebooks, 6 findings")
    code, out, err = course("check", "--fix")
    assert (code, err) == (0, "")
    assert out.split("\n")[0] == (
        "rewrote badge and set-up cell of sources/lectures/01_addition.py, and built lectures/01_addition.ipynb anew"
    )


def test_a_folder_that_cannot_be_written(course, mini):
    (mini / "labs/01_addition.ipynb").unlink()
    (mini / "labs").rmdir()
    (mini / "labs").write_text("a file where a folder should be")
    code, _, err = course("build")
    assert code in (1, 2)
    assert err == "course: labs/01_addition.ipynb: Not a directory\n"


# ----------------------------------------------------------------------- the others: called with what was said, no more


@dataclass
class FakeResult:
    status: str = "passed"


@dataclass
class FakeOutcome:
    problems: list[str] = field(default_factory=list)
    result: FakeResult = field(default_factory=FakeResult)


@pytest.fixture
def called(monkeypatch):
    """Stands in for the modules behind run, test and report: notes the call, answers as told."""
    calls = {}

    def stand_in(name, answer):
        def function(*arguments, **options):
            calls[name] = (arguments, options)
            given = answer() if callable(answer) else answer
            return given

        room = {"run": "execution", "report": "reporting", "test": "proving"}[name]
        module = types.ModuleType(f"course.{room}.{name}")
        module.PARTS = {"outputs": "", "lab": "", "wrong": ""}
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, f"course.{room}.{name}", module)
        return calls

    return stand_in


def test_run_with_its_defaults(course, called, mini):
    called("report", mini / "build/report/index.html")
    calls = called("run", [FakeOutcome()])
    assert course("run")[0] == 0
    (manifest, notebooks, profile, overrides, jobs), options = calls["run"]
    assert manifest.root == mini
    assert [notebook.id for notebook in notebooks] == ["01/lecture", "01/solution"]
    assert (profile, overrides, jobs) == ("cpu", {}, 1)
    expected = {"keep_going": True, "fresh": False, "junit": None, "executor": "local", "scheduler": None}
    assert expected.items() <= options.items()


def test_run_with_everything(course, called, mini):
    called("report", mini / "build/report/index.html")
    calls = called("run", [FakeOutcome()])
    words = "run 1 --kind lecture --kind lab --profile smoke -p repeats 3 --parameter label=a=b -p low -1 --fail-fast"
    words += " --fresh --junit out.xml --executor dask --scheduler tcp://host:8786"
    assert course(*words.split())[0] == 0
    (_, notebooks, profile, overrides, jobs), options = calls["run"]
    assert [notebook.id for notebook in notebooks] == ["01/lecture", "01/lab"]
    assert (profile, jobs) == ("smoke", 2)
    assert overrides == {"repeats": "3", "label": "a=b", "low": "-1"}
    assert all(isinstance(value, Text) for value in overrides.values())
    expected = {"keep_going": False, "fresh": True, "executor": "dask", "scheduler": "tcp://host:8786"}
    assert expected.items() <= options.items()
    assert Path(options["junit"]) == Path("out.xml")
    assert course("run", "--jobs", "5")[0] == 0
    assert calls["run"][0][4] == 5


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        ([FakeOutcome(), FakeOutcome()], 0),
        ([FakeOutcome(), FakeOutcome(["left its band"])], 1),
        ([FakeOutcome(result=FakeResult("failed"))], 1),
        ([FakeOutcome(result=FakeResult("timeout"))], 1),
    ],
)
def test_the_exit_code_of_run(course, called, mini, outcomes, code):
    called("report", mini / "build/report/index.html")
    called("run", outcomes)
    assert course("run")[0] == code


def test_run_ends_with_the_path_of_the_report(course, called, mini):
    calls = called("report", mini / "build/report/index.html")
    called("run", [FakeOutcome(["left its band"])])
    code, out, _ = course("run", "--profile", "smoke")
    assert code == 1
    assert out.split("\n")[-2].endswith(str(mini / "build/report/index.html"))
    assert calls["report"][0][1] == "smoke"


def test_the_test_command(course, called, mini):
    calls = called("test", [])
    assert course("test")[0] == 0
    (manifest, notebooks), options = calls["test"]
    assert manifest.root == mini
    assert [notebook.kind for notebook in notebooks] == ["lecture", "solution", "lab"]
    assert options == {"update": False, "parts": ["outputs", "lab", "wrong"], "jobs": None, "fresh": False}
    called("test", ["a problem"])
    assert course("test", "01", "--update")[0] == 1
    assert calls["test"][1]["update"] is True


def test_the_parts_of_a_test(course, called):
    calls = called("test", [])
    assert course("test", "01/solution", "--only", "wrong", "--only", "outputs", "--jobs", "3", "--fresh")[0] == 0
    (_, notebooks), options = calls["test"]
    assert [notebook.id for notebook in notebooks] == ["01/solution"]
    assert options == {"update": False, "parts": ["wrong", "outputs"], "jobs": 3, "fresh": True}


def test_the_parts_are_those_of_the_module():
    from course.cli import Part
    from course.proving.test import PARTS

    assert [part.value for part in Part] == list(PARTS)


def test_report(course, called, mini):
    calls = called("report", mini / "build/report/index.html")
    assert course("report", "--profile", "smoke") == (0, f"{mini / 'build/report/index.html'}\n", "")
    assert calls["report"][0][1] == "smoke"


@pytest.mark.parametrize(("mark", "code"), [("ok", 0), ("note", 0), ("problem", 1)])
def test_doctor(course, monkeypatch, mark, code):
    from course import doctor

    monkeypatch.setattr(doctor, "doctor", lambda manifest: [doctor.Finding(mark, "Python", "is here", "do this")])
    status, out, err = course("doctor")
    assert (status, err) == (code, "")
    assert "Python: is here" in out


# --------------------------------------------------------------------------------------------------- errors of commands


def fails_with(error):
    def answer():
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CourseError("two\nlines"), 2, "course: two lines\n"),
        (CourseError("a failed course", 1), 1, "course: a failed course\n"),
        (OSError(28, "No space left on device", "build/run/x"), 1, "course: build/run/x: No space left on device\n"),
        (PermissionError(13, "Permission denied", "build"), 1, "course: build: Permission denied\n"),
        (OSError("odd"), 1, "course: a file: odd\n"),
        (KeyboardInterrupt(), 130, "course: interrupted\n"),
    ],
)
def test_errors_are_one_line(course, called, error, code, line):
    called("test", fails_with(error))
    assert course("test") == (code, "", line)


def test_a_defect_of_the_program_keeps_its_traceback(mini, monkeypatch, called):
    called("test", fails_with(ZeroDivisionError("oh")))
    monkeypatch.chdir(mini)
    with pytest.raises(ZeroDivisionError):
        main(["test"])


def test_a_closed_pipe_ends_quietly(mini):
    command = f"{sys.executable} -m course --root {mini} check | true"
    for number in range(200):
        (mini / "sources/wrong" / f"{number % 90 + 10}_x{number}.py").write_text("")
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        (["run", "-p", "a", "1"], ["run", "-p", "a=1"]),
        (["run", "-p", "a", "-1", "06"], ["run", "-p", "a=-1", "06"]),
        (["run", "-p", "a=1", "06"], ["run", "-p", "a=1", "06"]),
        (["run", "--parameter", "a", "x=y"], ["run", "--parameter", "a=x=y"]),
        (["run", "-p", "a"], ["run", "-p", "a"]),
        (["run", "-p"], ["run", "-p"]),
        (["run", "--", "-p", "a", "1"], ["run", "--", "-p", "a", "1"]),
        (["run", "-p", "a", ""], ["run", "-p", "a="]),
        ([], []),
    ],
)
def test_a_parameter_is_two_words_or_one(arguments, joined):
    assert _joined(arguments) == joined


def test_start_puts_a_copy_of_the_lab_into_work_and_never_touches_it_again(course, mini):
    code, out, _ = course("start", "01")
    copy = mini / "work/01_addition.ipynb"
    assert code == 0 and "work/01_addition.ipynb: a copy of labs/01_addition.ipynb" in out and "jupyter lab" in out
    assert copy.read_bytes() == (mini / "labs/01_addition.ipynb").read_bytes()
    copy.write_text(copy.read_text().replace("NotImplementedError", "ValueError"))
    answered = copy.read_bytes()
    code, out, _ = course("start", "01")
    assert code == 0 and "is there already, as you left it" in out and copy.read_bytes() == answered
    assert course("check")[0] == 0, "a copy in work/ is nobody's business"
    assert course("build")[0] == 0 and copy.read_bytes() == answered


def test_a_lab_with_an_answer_is_not_built_over_but_kept_when_forced(course, mini):
    lab = mini / "labs/01_addition.ipynb"
    before = lab.read_bytes()
    lab.write_text(lab.read_text().replace("raise NotImplementedError(", "return a + b  # (", 1))
    answered = lab.read_bytes()
    for arguments in (["build"], ["build", "01"], ["build", "--check"]):
        code, _, err = course(*arguments)
        assert code == 1 and lab.read_bytes() == answered
        assert err.count("\n") == 1 and "is not as it was handed out" in err and "`course build 01 --force`" in err
    code, out, _ = course("check")
    assert code == 1 and "is not as it was handed out" in out
    for number in ("", "-2"):
        lab.write_bytes(answered)
        code, out, _ = course("build", "01", "--force")
        assert code == 0 and lab.read_bytes() == before
        assert f"its answers are kept in work/01_addition{number}.ipynb" in out
        assert (mini / f"work/01_addition{number}.ipynb").read_bytes() == answered


def test_a_topic_in_preparation_is_no_unknown_one(course, mini):
    edit(mini / "course.toml", "[profiles.cpu]", 'in_preparation = ["02_subtraction"]\n\n[profiles.cpu]')
    for selector in ("2", "02", "02_subtraction", "02/lecture"):
        code, _, err = course("run", selector)
        assert (code, err) == (
            2,
            "course: topic 02_subtraction is in preparation: this version of the course has 01 to 01\n",
        )
    assert "no topic '03'" in course("run", "03")[2]


@pytest.mark.parametrize("arguments", [["run"], ["calibrate"], ["test"]])
def test_a_mistyped_data_folder_is_told_before_anything_runs(course, monkeypatch, tmp_path, arguments):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "dta"))
    code, out, err = course(*arguments)
    assert (code, out) == (2, "")
    assert err == f"course: COURSE_DATA names {tmp_path / 'dta'}, which is no folder: correct it, or unset it\n"


@pytest.mark.skipif(
    sys.platform != "linux", reason="where a folder may have any bytes for a name, and may go while one is in it"
)
def test_a_folder_whose_name_is_no_text_and_one_that_is_gone(mini, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff")
    shutil.copytree(mini, odd)
    gone = tmp_path / "gone"

    def run(*arguments, cwd):
        command = [sys.executable, "-m", "course", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, errors="replace")

    for arguments in (["build"], ["check"], ["run", "01/lecture", "--profile", "smoke"], ["start", "01"]):
        done = run(*arguments, cwd=odd)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    gone.mkdir()
    code = f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    code += "from course.cli import main; main(['check'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "course: the current folder is gone: go to the folder of the course\n")
