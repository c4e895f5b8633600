"""Execution of single notebooks, good and bad, with real kernels; each costs a second or two, so they run at once."""

import contextlib
import errno
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from course import files
from course.errors import CourseError
from course.execution import template
from course.execution import worker as execute
from course.execution.client import RESULTS, read_metrics
from course.execution.inkernel import output as guard
from course.execution.provisioner import write_startup
from course.execution.worker import MARK, Execution, Request, spawn
from course.files import write_atomically
from course.outcome import Result

LIMIT = 300_000  # bytes that a cell may print here
QUIET_MEGABYTES = 260  # our process and an idle kernel take 160


def write_notebook(path: Path, *cells: str, kernel: str = "python3", tags: dict[int, list[str]] | None = None) -> Path:
    """A notebook of these cells; those that begin with `#` and a blank, or with `##`, are text."""
    made = []
    for index, source in enumerate(cells):
        kind = "markdown" if source.startswith(("# ", "##")) else "code"
        cell = {"cell_type": kind, "id": f"cell-{index}", "metadata": {}, "source": source}
        if kind == "code":
            cell |= {"outputs": [], "execution_count": None}
        if tags and index in tags:
            cell["metadata"]["tags"] = tags[index]
        made.append(cell)
    metadata = {"kernelspec": {"name": kernel, "display_name": "Python 3", "language": "python"}}
    content = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def request(path: Path, parameters: dict | None = None, **limits) -> Request:
    """The same environment for all, so that one template serves."""
    return Request(str(path), parameters or {}, threads=1, environment={"EXTRA": "given"}, **limits)


def text(cell: dict) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


# Notebooks that go wrong in their second cell: (second cell, limits of the request, status, what the message says)
CATCHES = "while True:\n    try:\n        while True: {}\n    except KeyboardInterrupt: pass"
BAD = {
    "prints": ("while True: print('x' * 1000)", {}, "flooded", "300,000 bytes"),
    "prints, interrupts are nothing to it": (CATCHES.format("print('x' * 1000)"), {}, "flooded", "300,000 bytes"),
    "prints to stderr": ("import sys\nwhile True: sys.stderr.write('x' * 1000)", {}, "flooded", "300,000 bytes"),
    "displays": ("while True: display('x')", {}, "flooded", "300,000 bytes"),
    "displays in place": (
        "while True:\n    clear_output(wait=True)\n    display('x' * 20_000)",
        {},
        "flooded",
        "300,000 bytes",
    ),
    "one giant text": ("print('x' * 200_000_000)", {}, "flooded", "300,000 bytes"),
    "one giant error": ("raise ValueError('x' * 100_000_000)", {}, "flooded", "300,000 bytes"),
    "a process prints": ("subprocess.run(['yes'])", {}, "flooded", "300,000 bytes"),
    "prints, without our guard in its kernel": (
        "session = get_ipython().kernel.session\ndel session.send, sys.stdout.write\nwhile True: print('x' * 1000)",
        {},
        "flooded",
        "300,000 bytes",
    ),
    "exits": ("os._exit(3)", {}, "died", "exit code 3"),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", {}, "died", "SIGKILL"),
    "crashes": ("import ctypes\nctypes.string_at(0)", {}, "died", "SIGSEGV"),
    "sleeps": ("import time\ntime.sleep(1000)", {"wall_seconds": 2}, "timeout", "the wall limit is 2 s"),
    "computes": ("while True: pass", {"cpu_seconds": 2}, "timeout", "more than 2 s of CPU time"),
    "computes, interrupts are nothing to it": (CATCHES.format("pass"), {"cpu_seconds": 2}, "timeout", "CPU time"),
    "computes in another process": (
        "subprocess.run([sys.executable, '-c', 'while True: pass'])",
        {"cpu_seconds": 2},
        "timeout",
        "more than 2 s of CPU time",
    ),
    "fails": ("1 / 0", {}, "failed", "division by zero"),
    "stops early": ("sys.exit(0)", {}, "failed", "0"),
    "asks": ("input('name?')", {}, "failed", "input"),
}
FIRST = (
    "import os, signal, subprocess, sys\nfrom IPython.display import clear_output, display\n"
    "print('one')\nprint('two', flush=True)"
)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """By name: the result of the notebook, and its cells as executed."""
    folder = tmp_path_factory.mktemp("bad")

    def one(number: int, cell: str, limits: dict) -> tuple[Result, list[dict]]:
        path = write_notebook(folder / f"{number}.ipynb", FIRST, cell, "print('never')")
        limits = {"cpu_seconds": 100, "wall_seconds": 300, "output_bytes": LIMIT, **limits}
        result, executed = spawn(request(path, **limits))
        return result, json.loads(executed)["cells"]

    with ThreadPoolExecutor(3) as pool:
        started = {name: pool.submit(one, n, case[0], case[1]) for n, (name, case) in enumerate(BAD.items())}
        return {name: future.result() for name, future in started.items()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_notebook_is_reported_as_what_it_is(bad, name):
    source, _, status, says = BAD[name]
    result, cells = bad[name]
    assert result.status == status
    assert (result.error["cell"], result.error["cell_id"]) == (1, "cell-1")
    assert result.error["source"] == source.split("\n")[0]
    assert says in result.error["value"]
    assert "\x1b" not in json.dumps(result.error)
    assert text(cells[0]) == "one\ntwo\n", "what was printed before is in the notebook"
    assert cells[2]["outputs"] == []
    assert len(json.dumps(cells)) < 100_000, "the beginning of a flood is enough"


@pytest.mark.parametrize("name", [name for name, case in BAD.items() if case[2] == "flooded"])
def test_memory_stays_flat_while_a_notebook_prints_without_end(bad, name):
    own = {"one giant text": 200, "one giant error": 400}.get(name, 0)  # what the notebook and IPython make
    own += 300 if "without our guard" in name else 0  # what it prints until the interrupt comes, copied a few times
    assert bad[name][0].peak_rss_bytes / 1e6 < QUIET_MEGABYTES + own


def test_where_a_cell_hung_is_seen_in_its_traceback(bad):
    result, cells = bad["sleeps"]
    assert "----> 2 time.sleep(1000)" in result.error["traceback"]
    assert cells[1]["outputs"][-1]["ename"] == "KeyboardInterrupt"


def test_the_wall_limit_says_that_it_is_one(bad):
    assert re.fullmatch(
        r"took \d+(\.\d)? s on the clock, the wall limit is 2 s \([\d.]+ s of it CPU time\)",
        bad["sleeps"][0].error["value"],
    )


def test_every_code_cell_has_its_result(bad):
    for name, (_, _, status, says) in BAD.items():
        first, second, third = bad[name][0].cells
        assert (first.index, first.id, first.status, first.name) == (0, "cell-0", "passed", "")
        assert (second.index, second.status) == (1, status) and says in second.message
        assert (third.index, third.status) == (2, "skipped")
        assert first.wall_seconds > 0 and first.output_bytes > 8


def test_a_name_of_many_files_or_one_that_grows_is_ended_with_its_cell(tmp_path):
    many = "for n in range(10**6): open(str(n % 3), 'wb').write(b'x' * 1_000_000)"
    result, _ = spawn(request(write_notebook(tmp_path / "in.ipynb", "1", many), file_bytes=200_000_000))
    assert (result.status, result.error["cell"]) == ("flooded", 1)
    assert result.error["value"] == "wrote more than 200,000,000 bytes to files"
    one = "file = open('one', 'wb')\nwhile True: file.write(b'x' * 1_000_000)"
    result, _ = spawn(request(write_notebook(tmp_path / "in.ipynb", "1", one), file_bytes=20_000_000))
    assert result.status != "passed" and result.error["cell"] == 1
    assert "File too large" in result.error["value"] or "20,000,000 bytes to files" in result.error["value"]


def test_an_error_has_its_name_and_its_traceback(bad):
    result, cells = bad["fails"]
    assert result.error["name"] == "ZeroDivisionError"
    assert "----> 1 1 / 0" in result.error["traceback"]
    assert cells[1]["outputs"][0]["output_type"] == "error"


# ------------------------------------------------------------------------------------------------ one that is good

GOOD = (
    "# Title",
    "number: int = 1\nname: str = 'a'",
    "## Counting",
    "import json, os, subprocess, sys\nprint(number, name)\nnumber",
    "bundle = {'application/vnd.course.results+json': {'loss': 2, 'accuracy': .5}}\ndisplay(bundle, raw=True)",
    "display({'application/vnd.course.results+json': {'accuracy': .75}}, raw=True)",
    "# Text\n## Environment",
    "print(json.dumps(dict(os.environ, cwd=os.getcwd(), args=sys.argv)))",
    "own = b'x' * 200_000_000\n"
    "code = 'import time; own = b\"x\" * 200_000_000; time.sleep(2)'\n"
    "subprocess.run([sys.executable, '-c', code]).returncode",
    "left = subprocess.Popen(['sleep', '1000'])\n"
    "away = subprocess.Popen(['sh', '-c', 'sleep 1000 &'], start_new_session=True)",
    "1 / 0",
    # our process sleeps meanwhile, so that all of it must wait
    "import signal\nos.kill(os.getppid(), signal.SIGSTOP)\n"
    "for index in range(2500): display(index)\n"
    "sys.stdout.flush()\nos.kill(os.getppid(), signal.SIGCONT)",
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a {strange} näme")
    path = write_notebook(folder / "in.ipynb", *GOOD, tags={1: ["parameters"], 10: ["raises-exception"]})
    told: list[dict] = []
    result, executed = spawn(request(path, {"number": 5}), told.append)
    return result, json.loads(executed)["cells"], told, path


def test_a_good_notebook_passes(good):
    result, _, _, path = good
    assert (result.status, result.error, result.notebook) == ("passed", None, str(path))
    assert result.versions["python"].startswith("3.")
    assert {"keras", "tensorflow"} <= set(result.versions)
    assert 0.1 < result.cpu_seconds < 60 and 2 < result.wall_seconds < 300
    assert [cell.index for cell in result.cells] == [
        index for index, cell in enumerate(GOOD) if cell[:2] not in ("# ", "##")
    ]
    assert {cell.status for cell in result.cells} <= {"passed", "failed"}
    assert (result.kernel == "forked") == (sys.platform == "linux")


def test_parameters_follow_the_parameters_cell(good):
    cells = good[1]
    assert cells[2]["metadata"]["tags"] == ["injected-parameters"]
    assert "number = 5" in "".join(cells[2]["source"])
    assert text(cells[4]) == "5 a\n"


def test_of_a_metric_recorded_twice_the_later_value_counts(good):
    assert good[0].metrics == {"loss": 2.0, "accuracy": 0.75}


def test_progress_counts_the_cells_of_the_notebook_as_given(good):
    told = good[2]
    assert [(step["cell"], step["heading"]) for step in told][:5] == [
        (1, "Title"),
        (1, "Title"),
        (3, "Counting"),
        (4, "Counting"),
        (5, "Counting"),
    ]
    assert told[5] == {"cell": 7, "cells": len(GOOD), "heading": "Environment"}


def test_the_kernel_works_in_the_notebooks_folder_with_fixed_threads(good):
    environment = json.loads(text(good[1][8]))
    assert environment["cwd"] == str(good[3].parent)
    assert environment["EXTRA"] == "given"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        assert environment[name] == "1"
    assert (environment["TF_CPP_MIN_LOG_LEVEL"], environment["PYTHONHASHSEED"]) == ("3", "0")


def test_memory_is_that_of_all_processes_together(good):
    assert good[0].peak_rss_bytes > 450e6


def test_no_output_is_lost_when_it_comes_faster_than_it_is_read(good):
    """A queue of 1000 messages, ZeroMQ's default, loses most of these."""
    shown = ["".join(output["data"]["text/plain"]) for output in good[1][-1]["outputs"]]
    assert shown == [str(index) for index in range(2500)]


@pytest.fixture
def short_folder():
    """The path of a socket must be short."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def test_no_output_is_lost_when_the_reader_connects_late(tmp_path, short_folder):
    """A busy machine may connect the reader after the kernel has begun: the queue of that connection is without end
    too.
    """
    from jupyter_client.manager import KernelManager

    kernel = KernelManager(connection_file=str(tmp_path / "kernel.json"), transport="ipc", ip=f"{short_folder}/kernel")
    write_startup(tmp_path / "ipython", 10**7, tmp_path / "notes")
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    kernel.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment)
    reader = kernel.client()
    try:
        reader.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
        reader.kernel_info(reply=True, timeout=120)
        reader.iopub_channel.start()
        assert wait_for(lambda: answers(reader))
        request = reader.execute("for index in range(6000): display(index)")
        assert reader.get_shell_msg(timeout=120)["parent_header"]["msg_id"] == request
        shown, state = [], ""
        while state != "idle":
            message = reader.get_iopub_msg(timeout=20)
            if message["parent_header"].get("msg_id") == request:
                state = message["content"].get("execution_state", "")
                if message["msg_type"] == "display_data":
                    shown.append(int(message["content"]["data"]["text/plain"]))
        assert shown == list(range(6000))
    finally:
        reader.stop_channels()
        kernel.shutdown_kernel(now=True)


def answers(reader) -> bool:
    """Whether the kernel is heard on the channel of outputs."""
    reader.kernel_info(reply=True, timeout=60)
    with contextlib.suppress(queue.Empty):
        return bool(reader.get_iopub_msg(timeout=0.5))
    return False


def test_a_personal_matplotlib_backend_stays_outside():
    base = {"MPLBACKEND": "agg", "PATH": "/bin"}
    assert execute.kernel_environment(Request("a"), base)["MPLBACKEND"] == execute.INLINE


def test_no_notebook_believes_that_somebody_moves_its_sliders():
    """JupyterLab's kernels have this variable, and a terminal of JupyterLab has it too."""
    base = {"JPY_SESSION_NAME": "lectures/a.ipynb", "PATH": "/bin"}
    assert "JPY_SESSION_NAME" not in execute.kernel_environment(Request("a"), base)


def test_what_is_no_finite_number_is_no_metric_and_is_told():
    bundles = [{"a": 1}, {"a": "no"}, {"b": None}, ["c"], {"d": "x"}, {"d": 1}, {"e": 10**400}, {"f": float("nan")}]
    cells = [{"outputs": [{"data": {RESULTS: bundle}}]} for bundle in bundles]
    execution = Execution(Request(""), Path(), None, print)
    read_metrics(execution, cells)
    assert execution.metrics == {"d": 1.0}
    assert execution.unreadable == {
        "a": "'no'",
        "b": "a NoneType that is no float",
        "e": "a int that is no float",
        "f": "nan",
    }


def test_a_number_without_end_costs_its_metric_and_not_the_notebook(tmp_path):
    record = "display({'application/vnd.course.results+json': {'m': 10**400, 'n': 2}}, raw=True)"
    result, _ = spawn(request(write_notebook(tmp_path / "in.ipynb", record)))
    assert (result.status, result.metrics) == ("passed", {"n": 2.0}) and list(result.unreadable) == ["m"]


# ---------------------------------------------------------------------------------------- nothing stays behind

STARTS_OTHERS = (
    "import os, pathlib, subprocess, time\n"
    "if os.fork() == 0:\n"
    "    time.sleep(1000)\n"  # found by its session, since it has started no other program
    "near = subprocess.Popen(['sleep', '1000'])\n"
    "away = subprocess.Popen(['sh', '-c', 'sleep 1000 & sleep 1000'], start_new_session=True)\n"
    "lost = subprocess.Popen(['sh', '-c', '(setsid sleep 1000 &)'])\n"
    "lost.wait()\n"
    "pathlib.Path('pid').write_text(str(os.getppid()))\n"
    "os.rename('pid', 'ready')\n"
    "time.sleep(1000)\n"
)


def marked(name: str, value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
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


def hears_interrupts() -> None:
    """In a new process: when the tests run in the background of a shell, SIGINT is ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def family(tmp_path):
    """A parent that spawns a notebook, which has started processes of its own; and how to find them all."""
    mark = uuid.uuid4().hex
    path = write_notebook(tmp_path / "in.ipynb", "1", STARTS_OTHERS)
    code = (
        "from course.execution import template\nfrom course.execution.worker import Request, spawn\n"
        f"template.MODULES = {template.MODULES}\nprint(spawn(Request({str(path)!r}, "
        "wall_seconds=300))[0].error['name'])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "COURSE_TEST": mark, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=hears_interrupts,
    )
    try:
        assert wait_for((tmp_path / "ready").exists)
        yield parent, lambda: marked("COURSE_TEST", mark), tmp_path
    finally:
        for process in marked("COURSE_TEST", mark):
            process.kill()
        parent.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_when_the_parent_ends_all_ends(family, number):
    parent, left, folder = family
    assert len(left()) >= 7, "parent, child, kernel and what the notebook started"
    parent.send_signal(number)
    parent.wait(60)
    assert wait_for(lambda: not left(), 30), left()
    assert wait_for(lambda: not list(folder.glob("course-*")), 30), "its scratch folder is gone as well"


def test_when_the_process_in_between_is_killed_all_ends(family):
    parent, left, folder = family
    os.kill(int((folder / "ready").read_text()), signal.SIGKILL)
    said, _ = parent.communicate(timeout=60)
    assert said == "ProcessDied\n"
    assert wait_for(lambda: not left(), 10), left()


def test_a_notebook_that_is_done_leaves_nothing(tmp_path):
    path = write_notebook(
        tmp_path / "in.ipynb", STARTS_OTHERS.removesuffix("time.sleep(1000)\n"), "import os\nos.environ"
    )
    result, executed = spawn(request(path))
    assert result.status == "passed"
    shown = json.loads(executed)["cells"][1]["outputs"][0]["data"]["text/plain"]
    mark = next(line for line in "".join(shown).split(",") if MARK in line).split("'")[3]
    assert marked(MARK, mark) == []


def test_cancel(tmp_path):
    path = write_notebook(
        tmp_path / "in.ipynb", "1", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)"
    )
    cancel = threading.Event()

    def on_progress(step: dict) -> None:
        if step["cell"] == 1:
            cancel.set()

    before = set(psutil.Process().children(recursive=True))
    result, _ = spawn(request(path), on_progress, cancel)
    assert result.status == "cancelled"
    assert set(psutil.Process().children(recursive=True)) <= before, "the template alone is left"


# ------------------------------------------------------------------------------------------ kernels that do not start


def kernel_spec(folder: Path, monkeypatch, *argv: str) -> str:
    spec = folder / "share" / "kernels" / "odd" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "odd", "language": "python"}))
    monkeypatch.setattr(execute, "template", cold)
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share"))
    return "odd"


def cold(environment):
    raise template.Unavailable("a test asks for a cold start")


def test_a_kernel_that_ends_at_once_is_told_with_its_last_words(tmp_path, monkeypatch):
    kernel = kernel_spec(tmp_path, monkeypatch, sys.executable, "-c", "raise SystemExit('No module named ipykernel')")
    path = write_notebook(tmp_path / "in.ipynb", "1", kernel=kernel)
    result, executed = spawn(request(path))
    assert (result.status, result.error["name"], result.error["cell"]) == ("died", "KernelDidNotStart", None)
    assert result.error["value"].endswith("No module named ipykernel")
    assert [cell.status for cell in result.cells] == ["skipped"] and executed is not None
    assert result.kernel == "cold: a test asks for a cold start"


def test_an_unknown_kernel(tmp_path):
    path = write_notebook(tmp_path / "in.ipynb", "1", kernel="nosuch")
    result, _ = spawn(request(path))
    assert (result.status, result.error["name"]) == ("died", "KernelDidNotStart")
    assert "nosuch" in result.error["value"]


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such notebook"), ("{", "no JSON"), ("[1]", "not a notebook"), ("{}", "not a notebook")],
)
def test_what_is_no_notebook_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "in.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CourseError, match=says) as caught:
        spawn(request(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    order = request(write_notebook(tmp_path / "in.ipynb", "1"))
    order.cwd = str(tmp_path / "gone")
    with pytest.raises(CourseError, match="gone: no such folder, and the kernel would work there"):
        spawn(order)


def test_no_room_for_temporary_files_is_told_before_a_kernel_fails_of_it(tmp_path, monkeypatch):
    usage = execute.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(execute.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(CourseError, match="the folder for temporary files, is full: make room, or set TMPDIR"):
        spawn(request(write_notebook(tmp_path / "in.ipynb", "1")))


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_atomically(path, b"first")
    assert path.stat().st_mode & 0o777 == 0o666 & ~files._umask()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CourseError, match=f"{path}: cannot be written: No space left on device"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["file"]


# ---------------------------------------------------------------------------------------------------------- output


def test_weight_is_about_the_number_of_bytes():
    content = {
        "data": {"text/plain": "x" * 100, "image/png": b"y" * 1000},
        "n": [1, 2.0, None],
        "b": memoryview(b"z" * 10),
    }
    assert guard.weigh(content) == 100 + 1000 + 24 + 10 + len("datatext/plainimage/pngnb")


def test_outputs_that_replace_the_last_one_may_go_on_for_longer():
    meter = guard.Meter(10_000)
    curve = {"data": {"image/png": "x" * 4000}}
    shown = 0
    while meter.admits("clear_output", {}) and meter.admits("display_data", curve):
        shown += 1
    assert 10_000 * guard.REPLACED / 5000 < shown <= 10_000 * guard.REPLACED / 4000
    meter.start()
    assert [meter.admits("display_data", curve) for _ in range(3)] == [True, True, False]
    assert not meter.admits("update_display_data", {"data": "x" * 10_000})


def test_messages_without_content_count_too():
    meter = guard.Meter(10_000)
    assert sum(meter.admits("display_data", {}) for _ in range(1000)) == 10_000 // guard.OVERHEAD
    assert meter.admits("status", {"execution_state": "idle"})
