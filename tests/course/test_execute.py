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
from course.execution import client
from course.execution import worker as execute
from course.execution.clock import Clock
from course.execution.inkernel import flood
from course.execution.worker import MARK, Request, read_metrics, spawn
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
    "sleeps": ("import time\ntime.sleep(1000)", {"cell_seconds": 1.5}, "timeout", "1.5 s, the limit of one cell"),
    "computes, interrupts are nothing to it": (CATCHES.format("pass"), {"cell_seconds": 1.5}, "timeout", "one cell"),
    "too slow as a whole": (
        "import time\ntime.sleep(1000)",
        {"cell_seconds": 900, "wall_seconds": 1.5},
        "timeout",
        "1.5 s, its limit",
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
        output = folder / "out" / f"{number}.ipynb"
        limits = {"cell_seconds": 60, "wall_seconds": 90, "output_bytes": LIMIT, **limits}
        result = spawn(Request(str(path), str(output), **limits))
        return result, json.loads(output.read_text())["cells"]

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


@pytest.mark.parametrize(
    ("crowding", "limits", "says"),
    [
        (1.0, {"cell_seconds": 1.0}, "still running after 1 s, the limit of one cell"),
        (20.0, {"cell_seconds": 1.0}, None),
        (
            3.0,
            {"cell_seconds": 0.5},
            r"after 0.5 s, the limit of one cell \(in fact [1-4][.\d]* s, since the machine was busy\)",
        ),
        (1.0, {"wall_seconds": 1.0}, "the notebook had taken 1 s, its limit"),
        (20.0, {"wall_seconds": 1.0}, None),
    ],
)
def test_on_a_busy_machine_limits_come_later(tmp_path, short_folder, crowding, limits, says):
    path = write_notebook(tmp_path / "in.ipynb", "import time\nfor _ in range(50): time.sleep(.1)")
    notebook = execute._read_notebook(str(path))
    given = {"cell_seconds": 100.0, "wall_seconds": 100.0, **limits}
    environment = execute.kernel_environment(Request("", ""))
    busy = client.Run(
        environment, str(tmp_path), Path(short_folder), output_bytes=LIMIT, clock=Clock(lambda: crowding), **given
    )
    client.run_cells(notebook, busy)
    assert busy.status == ("passed" if says is None else "timeout")
    if says is not None:
        assert re.search(says, busy.error["value"])


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
    output = folder / "new" / "out.ipynb"
    told: list[dict] = []
    order = Request(str(path), str(output), {"number": 5}, threads=1, environment={"EXTRA": "given"})
    result = spawn(order, told.append)
    return result, json.loads(output.read_text())["cells"], told, path


def test_a_good_notebook_passes(good):
    result, _, _, path = good
    assert (result.status, result.error, result.notebook) == ("passed", None, str(path))
    assert result.versions["python"].startswith("3.")
    assert {"keras", "tensorflow"} <= set(result.versions)
    assert 0.3 < result.cpu_seconds < 60 and 2 < result.wall_seconds < 300


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
    assert good[0].peak_rss_bytes > 500e6


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
    kernel.start_kernel(
        extra_arguments=[client.guard(10**7)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
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
    assert "MPLBACKEND" not in execute.kernel_environment(Request("a", "b"), base)


def test_no_notebook_believes_that_somebody_moves_its_sliders():
    """JupyterLab's kernels have this variable, and a terminal of JupyterLab has it too."""
    base = {"JPY_SESSION_NAME": "lectures/a.ipynb", "PATH": "/bin"}
    assert "JPY_SESSION_NAME" not in execute.kernel_environment(Request("a", "b"), base)


def test_cells_without_numbers_record_nothing():
    bundles = [{"a": True and "no"}, {"b": None}, ["c"], {"d": 1}]
    cells = [{"outputs": [{"data": {execute.RESULTS: bundle}}]} for bundle in bundles]
    assert read_metrics(cells) == {"d": 1.0}


# ---------------------------------------------------------------------------------------- nothing stays behind

STARTS_OTHERS = (
    "import subprocess, time\n"
    "near = subprocess.Popen(['sleep', '1000'])\n"
    "away = subprocess.Popen(['sh', '-c', 'sleep 1000 & sleep 1000'], start_new_session=True)\n"
    "lost = subprocess.Popen(['sh', '-c', '(setsid sleep 1000 &)'])\n"
    "lost.wait()\n"
    "open('ready', 'w').close()\n"
    "time.sleep(1000)"
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
    order = f"Request({str(path)!r}, {str(tmp_path / 'out.ipynb')!r}, cell_seconds=100, wall_seconds=100)"
    code = f"from course.execution.worker import Request, spawn\nprint(spawn({order}).error['name'])"
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
    assert not (folder / "out.ipynb").exists()


def test_when_the_process_in_between_is_killed_all_ends(family):
    parent, left, _ = family
    (child,) = [process for process in left() if "course.execution.worker" in process.cmdline()]
    child.kill()
    said, _ = parent.communicate(timeout=60)
    assert said == "ProcessDied\n"
    assert wait_for(lambda: not left(), 10), left()


def test_a_notebook_that_is_done_leaves_nothing(tmp_path):
    path = write_notebook(tmp_path / "in.ipynb", STARTS_OTHERS.replace("time.sleep(1000)", ""), "import os\nos.environ")
    result = spawn(Request(str(path), str(tmp_path / "out.ipynb")))
    assert result.status == "passed"
    shown = json.loads((tmp_path / "out.ipynb").read_text())["cells"][1]["outputs"][0]["data"]["text/plain"]
    mark = next(line for line in "".join(shown).split(",") if MARK in line).split("'")[3]
    assert marked(MARK, mark) == []


def test_cancel(tmp_path):
    path = write_notebook(tmp_path / "in.ipynb", "1", "import time\ntime.sleep(1000)")
    cancel = threading.Event()

    def on_progress(step: dict) -> None:
        if step["cell"] == 1:
            cancel.set()

    result = spawn(Request(str(path), str(tmp_path / "out.ipynb")), on_progress, cancel)
    assert result.status == "cancelled"
    assert not (tmp_path / "out.ipynb").exists()
    assert psutil.Process().children(recursive=True) == []


# ------------------------------------------------------------------------------------------ kernels that do not start


def kernel_spec(folder: Path, monkeypatch, *argv: str) -> str:
    spec = folder / "share" / "kernels" / "odd" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "odd", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share"))
    return "odd"


def test_a_kernel_that_ends_at_once_is_told_with_its_last_words(tmp_path, monkeypatch):
    kernel = kernel_spec(tmp_path, monkeypatch, sys.executable, "-c", "raise SystemExit('No module named ipykernel')")
    path = write_notebook(tmp_path / "in.ipynb", "1", kernel=kernel)
    result = spawn(Request(str(path), str(tmp_path / "out.ipynb")))
    assert (result.status, result.error["name"], result.error["cell"]) == ("died", "KernelDidNotStart", None)
    assert result.error["value"].endswith("No module named ipykernel")
    assert (tmp_path / "out.ipynb").exists()


def test_a_kernel_that_never_answers(tmp_path, monkeypatch):
    kernel = kernel_spec(tmp_path, monkeypatch, sys.executable, "-c", "import time; time.sleep(1000)")
    monkeypatch.setattr(execute, "START_SECONDS", 2)
    path = write_notebook(tmp_path / "in.ipynb", "1", kernel=kernel)
    result = execute.execute(Request(str(path), str(tmp_path / "out.ipynb")))
    assert (result.status, result.error["name"]) == ("died", "KernelDidNotStart")
    assert "2 seconds" in result.error["value"]
    assert psutil.Process().children(recursive=True) == []


def test_an_unknown_kernel(tmp_path):
    path = write_notebook(tmp_path / "in.ipynb", "1", kernel="nosuch")
    result = spawn(Request(str(path), str(tmp_path / "out.ipynb")))
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
        spawn(Request(str(path), str(tmp_path / "out.ipynb")))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.ipynb").exists()


def test_an_output_that_cannot_be_written_is_refused_with_its_path(tmp_path):
    path = write_notebook(tmp_path / "in.ipynb", "1")
    (tmp_path / "taken").write_text("a file, where a folder is wanted")
    with pytest.raises(CourseError, match=r"taken.*(Not a directory|File exists)"):
        spawn(Request(str(path), str(tmp_path / "taken" / "out.ipynb")))
    assert psutil.Process().children(recursive=True) == []


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


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root may mount a small disk")
def test_a_full_disk_is_told_with_the_path_and_leaves_nothing_half_written(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = write_notebook(tmp_path / "in.ipynb", "print('x' * 200_000)")
        with pytest.raises(CourseError, match=r"out\.ipynb: cannot be written: No space left on device"):
            spawn(Request(str(path), str(disk / "out.ipynb")))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


# ----------------------------------------------------------------------------------------------------------- flood


def test_weight_is_about_the_number_of_bytes():
    content = {
        "data": {"text/plain": "x" * 100, "image/png": b"y" * 1000},
        "n": [1, 2.0, None],
        "b": memoryview(b"z" * 10),
    }
    assert flood.weigh(content) == 100 + 1000 + 24 + 10 + len("datatext/plainimage/pngnb")


def test_outputs_that_replace_the_last_one_may_go_on_for_longer():
    meter = flood.Meter(10_000)
    curve = {"data": {"image/png": "x" * 4000}}
    shown = 0
    while meter.admits("clear_output", {}) and meter.admits("display_data", curve):
        shown += 1
    assert 10_000 * flood.REPLACED / 5000 < shown <= 10_000 * flood.REPLACED / 4000
    meter.start()
    assert [meter.admits("display_data", curve) for _ in range(3)] == [True, True, False]
    assert not meter.admits("update_display_data", {"data": "x" * 10_000})


def test_messages_without_content_count_too():
    meter = flood.Meter(10_000)
    assert sum(meter.admits("display_data", {}) for _ in range(1000)) == 10_000 // flood.OVERHEAD
    assert meter.admits("status", {"execution_state": "idle"})
