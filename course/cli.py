"""The command line: `course build | check | run | test | grade | report | compare | doctor`.

Only typer is imported here. Each command imports what it needs, so that help, misuse and a broken course.toml are told
within a second. Every mistake of the user's is one line on stderr: exit code 2 for misuse and bad input, 1 for a course
that fails.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from course.errors import CourseError, nearest
from course.manifest import KINDS, Manifest, Notebook, find_root, load
from course.parameters import Text


class Kind(StrEnum):
    lecture = "lecture"
    solution = "solution"
    lab = "lab"


class Part(StrEnum):
    outputs = "outputs"
    lab = "lab"
    wrong = "wrong"


class Executor(StrEnum):
    local = "local"
    dask = "dask"


app = typer.Typer(
    name="course",
    help="Build, check, run and test the notebooks of the course.\n\n"
    "A notebook is named by its topic (`6`, `06`, `transfer`, `06_transfer_learning`), by its id (`06/lecture`) or by "
    "its path. "
    "The course is the folder with course.toml: this one, one above it, COURSE_ROOT, or --root.\n\n"
    "\b\nExamples:\n"
    "  course run 06 --kind lecture   run one lecture, and see build/report/index.html\n"
    "  course check                   look at all notebooks, in seconds\n"
    "  course run --help              more examples of one command",
    rich_markup_mode=None,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

_ROOT_HELP = "The folder of the course; else COURSE_ROOT, else the first folder with course.toml from here upward."
_NOTEBOOKS_HELP = "Topics, ids or paths; all when none is given."
Root = Annotated[str | None, typer.Option("--root", metavar="FOLDER", help=_ROOT_HELP)]
Selectors = Annotated[list[str] | None, typer.Argument(metavar="NOTEBOOK", help=_NOTEBOOKS_HELP)]
Kinds = Annotated[
    list[Kind] | None,
    typer.Option("--kind", metavar="KIND", help="Only these: lecture, solution or lab (may be repeated)."),
]
_state: dict[str, str | None] = {"root": None}


@app.callback()
def _common(root: Root = None) -> None:
    _state["root"] = root


def _manifest(root: str | None) -> Manifest:
    given = root if root is not None else _state["root"]
    return load(find_root(given))


def _data_folder() -> None:
    """A mistyped COURSE_DATA would be told by the first notebook that looks for data, minutes later."""
    given = os.environ.get("COURSE_DATA")
    if given and not os.path.isdir(os.path.expanduser(given)):
        raise CourseError(f"COURSE_DATA names {given}, which is no folder: correct it, or unset it")


def _select(
    manifest: Manifest, selectors: list[str] | None, kinds: list[Kind] | None, default: Sequence[str]
) -> list[Notebook]:
    chosen = [kind.value for kind in kinds] if kinds else list(default)
    return manifest.select(selectors or [], chosen)


def _say(text: str = "") -> None:
    print(text, flush=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ------------------------------------------------------------------------------------------------------------- commands


@app.command()
def build(
    selectors: Selectors = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when a notebook is not what its source gives.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build labs with answers too; a copy of each goes into work/.")
    ] = False,
    root: Root = None,
) -> None:
    """Make lectures, solutions and labs from their sources.

    Nothing is executed, and a second build changes nothing. A checked output is kept while its cell is unchanged. A lab
    in which somebody has worked is not overwritten.

    \b
    Examples:
      course build              every notebook
      course build 06           the lecture, solution and lab of topic 06
      course build --check      for CI: exit 1 when a notebook is stale or was edited by hand
    """
    from course.authoring.build import build as build_notebooks

    manifest = _manifest(root)
    chosen = manifest.select(selectors, KINDS) if selectors else None
    results = build_notebooks(manifest, chosen, check=check, force=force)
    _finish_build(results, check)


def _finish_build(results: Sequence[Any], check: bool) -> None:
    broken = list(dict.fromkeys(result.message for result in results if result.state == "broken"))
    stale = [result.message for result in results if result.state in ("stale", "kept")]
    written = [result for result in results if result.state == "written"]
    for result in written:
        _say(f"wrote {result.relative}")
        if "kept in" in result.message:
            _say(result.message)
    for message in (*stale, *broken):
        print(f"course: {message}", file=sys.stderr)
    if broken:
        raise typer.Exit(2)
    if stale:
        raise typer.Exit(1)
    outcome = "all as their sources give them" if check else f"{len(written)} written"
    _say(f"{_count(len(results), 'notebook')}, {outcome}")


@app.command()
def check(
    selectors: Selectors = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Rewrite badges and set-up cells in the sources from course.toml.")
    ] = False,
    root: Root = None,
) -> None:
    """Look at the notebooks without running them.

    Each finding names the file, the cell, the rule and what to do. Exit 1 when there is one.

    \b
    Examples:
      course check              every notebook
      course check transfer     those of one topic
      course check --fix        after a change of tag or repository in course.toml
    """
    from course.authoring import check as checks

    manifest = _manifest(root)
    if fix:
        for line in checks.fix(manifest, manifest.select(selectors or [], KINDS)):
            _say(line)
    chosen = manifest.select(selectors, KINDS) if selectors else None
    findings, summary = checks.check(manifest, chosen)
    for finding in findings:
        _say(str(finding))
    _say(summary)
    if findings:
        raise typer.Exit(1)


@app.command(short_help="Execute notebooks; hold them against budgets and bands.")
def run(
    selectors: Selectors = None,
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="A profile of course.toml: cpu, smoke, real, gpu.")
    ] = "cpu",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME VALUE", help="Set a parameter of the notebooks (may be repeated)."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Notebooks side by side; else the profile's.")
    ] = None,
    kind: Kinds = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--fail-fast", help="After a failure go on with the others, or stop.")
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run even what has run before with the same content.")] = False,
    executor: Annotated[
        Executor, typer.Option("--executor", metavar="NAME", help="Where the notebooks run: local or dask.")
    ] = Executor.local,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="The scheduler of --executor dask, as tcp://host:8786."),
    ] = None,
    junit: Annotated[
        str | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML there; else to build/junit.xml.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show metrics without a band in this profile too.")
    ] = False,
    root: Root = None,
) -> None:
    """Execute lectures and solutions, each in a process of its own, and hold them against budgets and bands.

    What has run before with the same content is taken from the cache. Exit 1 when a notebook fails, goes over its
    budget or leaves its band.

    \b
    Examples:
      course run                                   every lecture and solution, profile cpu
      course run 06 --kind lecture --profile real  one lecture on photographs
      course run 06 --kind lecture -p epochs 3     with another parameter
      course run --profile smoke --jobs 2          does every cell run?
      course run --executor dask --scheduler tcp://host:8786
    """
    manifest = _manifest(root)
    _data_folder()
    notebooks = _select(manifest, selectors, kind, ("lecture", "solution"))
    chosen = manifest.profile(profile)
    if scheduler is not None and executor is not Executor.dask:
        raise CourseError("--scheduler goes with --executor dask")
    overrides = _overrides(parameter)
    from course.execution.run import run as run_notebooks

    outcomes = run_notebooks(
        manifest,
        notebooks,
        chosen.name,
        overrides,
        jobs if jobs is not None else chosen.jobs,
        keep_going=keep_going,
        fresh=fresh,
        junit=Path(junit) if junit is not None else None,
        executor=executor.value,
        scheduler=scheduler,
        verbose=verbose,
    )
    from course.reporting.report import report as write_report

    _say(f"report: {write_report(manifest, chosen.name)}")
    if any(outcome.problems or outcome.result.status != "passed" for outcome in outcomes):
        raise typer.Exit(1)


def _overrides(parameters: list[str] | None) -> dict[str, Text]:
    overrides: dict[str, Text] = {}
    for text in parameters or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise CourseError(f"-p {name}: expected -p NAME VALUE, such as -p epochs 3")
        overrides[name] = Text(value)
    return overrides


@app.command(short_help="Run notebooks over seeds and propose bands.")
def calibrate(
    selectors: Selectors = None,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="SEEDS", help="How many (5: the seeds 0 to 4), or which (0,10,20).")
    ] = "5",
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="The profile whose bands they are.")
    ] = "cpu",
    kind: Kinds = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Runs side by side; else the profile's.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the proposed bands into course.toml.")] = False,
    root: Root = None,
) -> None:
    """Run lectures and solutions over seeds, keep every value in calibration/, and propose each band.

    A band is a two-sided normal tolerance interval: with 90 % confidence it holds 95 % of all runs. A run is stored as
    it ends and is not repeated while the code is the same, so that an interrupted calibration goes on and a seed can be
    added. When the code has changed, one known seed runs first; the others count while it gives the same values. Exit 1
    when a run fails.

    \b
    Examples:
      course calibrate 06                             lecture and solution, seeds 0 to 4
      course calibrate 06 --kind lecture --seeds 8    three more seeds for the lecture
      course calibrate 06 --write                     put the bands into course.toml
    """
    from course.reporting.calibrate import calibrate as calibrate_notebooks
    from course.reporting.calibrate import read_seeds

    manifest = _manifest(root)
    _data_folder()
    notebooks = _select(manifest, selectors, kind, ("lecture", "solution"))
    if any(notebook.kind == "lab" for notebook in notebooks):
        raise CourseError("a lab records nothing: calibrate its lecture or solution")
    chosen = manifest.profile(profile)
    side_by_side = jobs if jobs is not None else chosen.jobs
    if calibrate_notebooks(manifest, notebooks, chosen, read_seeds(seeds), side_by_side, write, _say):
        raise typer.Exit(1)


@app.command(short_help="Put a copy of a lab into work/.")
def start(
    selectors: Annotated[list[str], typer.Argument(metavar="TOPIC", help="One or more topics, such as 01.")],
    root: Root = None,
) -> None:
    """Put a copy of the lab into work/, where your answers are safe: git ignores it, and nothing overwrites it.

    \b
    Examples:
      course start 01
    """
    from course.authoring.build import start as start_lab

    manifest = _manifest(root)
    for notebook in manifest.select(selectors, ("lab",)):
        if notebook.kind != "lab":
            raise CourseError(f"{notebook.id} is no lab: name the topic, such as `course start {notebook.id[:2]}`")
        path, made = start_lab(notebook)
        name = path.relative_to(manifest.root).as_posix()
        _say(f"{name}: a copy of {notebook.relative}" if made else f"{name} is there already, as you left it")
        _say(f"open it: make lab, then {name}; or: jupyter lab {path}")


@app.command(short_help="Prove checked outputs, labs and checks.")
def test(
    selectors: Selectors = None,
    update: Annotated[bool, typer.Option("--update", help="Store the outputs of the checked cells anew.")] = False,
    only: Annotated[
        list[Part] | None,
        typer.Option("--only", metavar="PART", help="Only this proof: outputs, lab or wrong (may be repeated)."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Proofs side by side; else as for smoke.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Prove even what was proved before with the same content.")
    ] = False,
    root: Root = None,
) -> None:
    """Prove the notebooks: checked outputs, labs that fail at their first gap, wrong answers that the checks catch.

    Everything runs with the smoke parameters. What was proved before with the same content is not proved again. Exit 1
    when a proof fails. A checked output must be the same in every profile and on every machine: --update stores what
    smoke prints.

    \b
    Examples:
      course test                       everything
      course test 01 --only wrong       do the checks of topic 01 catch each wrong answer?
      course test --update              after a change that is meant to change a checked output
    """
    from course.proving.test import PARTS
    from course.proving.test import test as test_notebooks

    manifest = _manifest(root)
    _data_folder()
    notebooks = manifest.select(selectors or [], KINDS)
    if update and only:
        raise CourseError("--update goes without --only: it stores outputs and proves nothing")
    parts = [part.value for part in only] if only else list(PARTS)
    if test_notebooks(manifest, notebooks, update=update, parts=parts, jobs=jobs, fresh=fresh):
        raise typer.Exit(1)


@app.command(short_help="Mark a folder of submissions, in a sandbox.")
def grade(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the submissions lie, at any depth.")],
    lab: Annotated[
        list[str],
        typer.Option("--lab", metavar="TOPIC", help="The lab they belong to (repeated: each to the one it is of)."),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where marks and pages go; else build/grades."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Submissions side by side; else one a core.")
    ] = None,
    checks: Annotated[
        str | None, typer.Option("--checks", metavar="FOLDER", help="Your own hidden checks, a file for each lab.")
    ] = None,
    executor: Annotated[
        Executor, typer.Option("--executor", metavar="NAME", help="Where they are graded: local or dask.")
    ] = Executor.local,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="The scheduler of --executor dask, as tcp://host:8786."),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox/--no-sandbox", help="Without it a submission may do whatever you may.")
    ] = True,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="Execute each notebook for its student's page; or marks alone.")
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade even what was graded before, unchanged.")] = False,
    cell_seconds: Annotated[
        float, typer.Option("--cell-seconds", metavar="N", min=1, help="Time for one check, when the machine is free.")
    ] = 60,
    memory_gb: Annotated[float, typer.Option("--memory-gb", metavar="N", min=1, help="Memory for one submission.")] = 4,
    root: Root = None,
) -> None:
    """Mark submissions: they run in a sandbox, the lab's checks in another process, and nothing but data crosses.

    Writes grades.csv, grades.json, a summary and a page for each student; overrides.csv is yours to fill in. What was
    graded before, unchanged, is kept. Exit 1 when a submission could not be graded. docs/grading.md says what it
    withstands.

    \b
    Examples:
      course grade submissions/ --lab 07
      course grade submissions/ --lab 07 --checks ~/own-checks --jobs 8
      course grade submissions/ --lab 06 --lab 07 --executor dask --scheduler tcp://host:8786
    """
    manifest = _manifest(root)
    if scheduler is not None and executor is not Executor.dask:
        raise CourseError("--scheduler goes with --executor dask")
    labs = manifest.select(lab, ("lab",))
    if any(chosen.kind != "lab" for chosen in labs):
        raise CourseError("--lab names a lab, such as 07")
    from course.grading.command import grade as grade_folder

    ungraded = grade_folder(
        manifest,
        Path(folder),
        labs,
        output=Path(output) if output is not None else None,
        jobs=jobs,
        own=Path(checks) if checks is not None else None,
        name=executor.value,
        scheduler=scheduler,
        boxed=sandbox,
        pages=pages,
        fresh=fresh,
        cell_seconds=cell_seconds,
        memory_gb=memory_gb,
    )
    if ungraded:
        raise typer.Exit(1)


@app.command(short_help="Write build/report/index.html from the last runs.")
def report(
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="The profile whose runs are shown.")
    ] = "cpu",
    root: Root = None,
) -> None:
    """Write build/report/index.html: every notebook with its picture, figures, time and memory, and its executed pages.

    \b
    Examples:
      course report                     the runs of profile cpu
      course report --profile smoke     those of profile smoke
    """
    from course.reporting.report import report as write_report

    manifest = _manifest(root)
    _say(str(write_report(manifest, manifest.profile(profile).name)))


@app.command(short_help="Hold two runs against each other.")
def compare(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="A folder of runs, such as a copy of build/run/smoke.")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")],
    profile: Annotated[str, typer.Option("--profile", metavar="NAME", help="Whose bands count.")] = "cpu",
    root: Root = None,
) -> None:
    """Hold two runs against each other: metrics, time, memory, pictures side by side (build/compare/index.html).

    Exit code 1 when a notebook passed before and does not now.

    \b
    Examples:
      course compare before build/run/smoke --profile smoke   `before` is a copy of an earlier build/run/smoke
    """
    from course.reporting.compare import compare as held

    manifest = _manifest(root)
    differences, page = held(manifest, before, after, manifest.profile(profile).name)
    for difference in differences:
        _say(difference.summary)
    _say(str(page))
    if any(difference.broken for difference in differences):
        raise typer.Exit(1)


@app.command(short_help="Say what this machine has for the course.")
def doctor(root: Root = None) -> None:
    """Say what this machine has for the course: Python, packages, backend, GPU, disk, data files.

    \b
    Examples:
      course doctor
    """
    from course import doctor as looks

    findings = looks.doctor(_manifest(root))
    _say(looks.render(findings))
    if any(finding.mark == "problem" for finding in findings):
        raise typer.Exit(1)


# ----------------------------------------------------------------------------------------------------------------- main


def _joined(arguments: Sequence[str]) -> list[str]:
    """`-p NAME VALUE` as `-p NAME=VALUE`, which the parser takes as one value; the latter stays as it is."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        joined.append(argument)
        if argument == "--":
            return joined + rest
        if argument not in ("-p", "--parameter") or not rest:
            continue
        name = rest.pop(0)
        if "=" in name or not rest or name.startswith("-"):
            joined.append(name)
        else:
            joined.append(f"{name}={rest.pop(0)}")
    return joined


def _utf8(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            raise CourseError(f"expected UTF-8 text, got {os.fsencode(argument)!r}") from None


def _fail(message: str, code: int) -> NoReturn:
    print(f"course: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 1 (the course fails), 2 (misuse, bad input) or 130 (Ctrl-C)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the name of a folder need not be text
            stream.reconfigure(errors="backslashreplace")
    _state["root"] = None
    if not arguments:
        arguments = ["--help"]
    try:
        _utf8(arguments)
        code = app(args=_joined(arguments), prog_name="course", standalone_mode=False)
        if code == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except CourseError as error:
        _fail(str(error), error.code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except OSError as error:
        name = error.filename if error.filename is not None else "a file"
        _fail(f"{name}: {error.strerror or error}", 1)
    except Exception as error:
        if type(error).__name__ == "Abort":
            _fail("interrupted", 130)
        if not hasattr(error, "format_message"):
            raise
        _fail(_usage(error, arguments), 2)


def _usage(error: Any, arguments: Sequence[str]) -> str:
    """What the parser says against the arguments, in one line with the nearest thing that exists."""
    message = str(error.format_message()).rstrip(".").replace("Value error, ", "")
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    if message.startswith("No such command"):
        named = re.search(r"'([^']*)'", message)
        wrong = named[1] if named else ""
        close = nearest(wrong, commands)
        hint = f"; did you mean {close}?" if close else ""
        return f"no such command {wrong!r} (known: {', '.join(commands)}{hint})"
    command = next((argument for argument in arguments if argument in commands), "")
    return f"{message[:1].lower()}{message[1:]} (`course {command + ' ' if command else ''}--help` shows what there is)"
