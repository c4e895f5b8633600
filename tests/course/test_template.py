"""Kernels that are forked: the same results as cold ones, side by side, and what happens when the template or its owner
dies.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from course.execution import template, worker
from course.execution.template import Template, Unavailable
from course.execution.worker import Request, kernel_environment, spawn

WHOLE = template.MODULES  # before the other tests make theirs lighter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

DRAWS = (
    "import random, numpy as np, matplotlib.pyplot as plt\nfrom utils import plots, results, session\nsession.start(3)",
    "print(np.random.rand(3), random.random())\n_ = plt.plot([1, 3, 2])",  # the figure is left open
    "results.record(total=np.random.rand())\nimport sys, os\nprint(sys.argv[0].split('/')[-1], sys.path[0], "
    "os.getcwd())",
)
TRAINS = (
    "from utils import results, session\nimport keras, numpy as np\nsession.start(1)",
    "images = np.random.rand(64, 8, 8, 1)\nlabels = (images.mean((1, 2, 3)) > .5).astype(int)\n"
    "model = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)])\n"
    "model.compile('adam', keras.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
    "history = model.fit(images, labels, epochs=3, verbose=2)",
    "results.record(loss=history.history['loss'][-1])\nprint(model.predict(images[:2], verbose=0))",
)


def write_notebook(path: Path, *cells: str) -> str:
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{n}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for n, source in enumerate(cells)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return str(path)


def outputs(executed: bytes) -> list:
    return [cell["outputs"] for cell in json.loads(executed)["cells"]]


def without_times(shown: list) -> str:
    """Training tells how long a step takes."""
    import re

    return re.sub(r"\d+m?s(/step)?", "", json.dumps(shown))


@pytest.fixture(scope="module")
def whole():
    """The template of `course run`, TensorFlow included."""
    environment = kernel_environment(Request(""))
    made = Template(environment, WHOLE)
    yield environment, made
    made.close()


@pytest.mark.parametrize("cells", [DRAWS, TRAINS], ids=["draws", "trains"])
def test_a_forked_kernel_gives_what_a_cold_one_gives(tmp_path, monkeypatch, whole, cells):
    _, made = whole
    request = Request(write_notebook(tmp_path / "in.ipynb", *cells))
    monkeypatch.setattr(worker, "template", lambda environment: made)
    forked, executed = spawn(request)
    monkeypatch.setattr(worker, "template", refuse)
    cold, again = spawn(request)
    assert (forked.status, cold.status) == ("passed", "passed"), (forked.error, cold.error)
    assert forked.kernel == "forked" and cold.kernel.startswith("cold: ")
    assert forked.metrics == cold.metrics
    assert without_times(outputs(executed)) == without_times(outputs(again))
    assert forked.files == cold.files and any(path.endswith("utils/session.py") for path in cold.files)
    assert [(cell.index, cell.status) for cell in forked.cells] == [(cell.index, cell.status) for cell in cold.cells]
    assert forked.cpu_seconds < cold.cpu_seconds - 2


def refuse(environment):
    raise Unavailable("a test asks for a cold start")


def test_two_at_a_time_draw_numbers_of_their_own(tmp_path, monkeypatch, whole):
    _, made = whole
    monkeypatch.setattr(worker, "template", lambda environment: made)
    cell = "import os, random, numpy as np, keras\nprint(np.random.rand(), random.random(), os.getpid())"
    paths = [
        write_notebook(tmp_path / f"{n}.ipynb", cell, "keras.ops.sum(keras.ops.ones((9, 9))).numpy()") for n in range(4)
    ]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda path: spawn(Request(path)), paths))
    assert {result.status for result, _ in results} == {"passed"}
    drawn = ["".join(outputs(executed)[0][0]["text"]) for _, executed in results]
    assert all(len({text.split()[n] for text in drawn}) == 4 for n in range(3)), drawn


def test_a_child_calls_any_function_with_files_and_variables_of_its_own(tmp_path):
    """What the grader will do."""
    (tmp_path / "target.py").write_text(
        "import os\ndef run():\n    print(os.environ['X'], os.environ['Y'], os.getsid(0) == os.getpid(), input())\n"
    )
    made = Template({**os.environ, "PYTHONPATH": str(tmp_path), "X": "1", "Y": "1"}, ["json"])
    before = len(os.listdir(f"/proc/{made.pid}/fd"))
    read, feed = os.pipe()
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    pid = made.fork("target:run", (read, out, out), {"Y": "2"})
    os.write(feed, b"hello\n")
    for file in (read, feed, out):
        os.close(file)
    assert wait_for(lambda: not psutil.pid_exists(pid)), "and the system has buried it"
    assert (tmp_path / "out").read_text() == "1 2 True hello\n"
    assert len(os.listdir(f"/proc/{made.pid}/fd")) == before
    made.close()


def wait_for(condition, seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_template_that_is_killed_costs_nothing_that_runs(tmp_path):
    """What runs goes on; the next notebook gets a new template."""
    path = write_notebook(
        tmp_path / "in.ipynb", "import time\nopen('ready', 'w').close()", "time.sleep(2)\nprint('done')"
    )
    request = Request(path, environment={"KILLED": "1"})
    first = template.template(kernel_environment(request))

    def kill():
        assert wait_for((tmp_path / "ready").exists)
        os.kill(first.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    result, executed = spawn(request)
    thread.join()
    assert result.status == "passed" and outputs(executed)[1][0]["text"] == ["done\n"]
    assert wait_for(lambda: first._process.poll() is not None)
    result, _ = spawn(request)
    second = template.template(kernel_environment(request))
    assert (result.status, result.kernel) == ("passed", "forked") and second is not first


def test_a_template_that_dies_before_it_forks_leaves_a_cold_start(tmp_path, monkeypatch):
    request = Request(write_notebook(tmp_path / "in.ipynb", "1"), environment={"STOPPED": "1"})
    made = template.template(kernel_environment(request))
    monkeypatch.setattr(worker, "template", lambda environment: made)
    os.kill(made.pid, signal.SIGKILL)
    made._process.wait()
    result, _ = spawn(request)
    assert result.status == "passed" and result.kernel.startswith("cold: the template")


def test_a_template_ends_with_its_program(tmp_path):
    code = (
        "import os, sys, time\nfrom course.execution.template import Template\n"
        "made = Template(dict(os.environ), ['json'])\nprint(made.pid, flush=True)\ntime.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
            "threads run in it",
        ),
        ("raise RuntimeError('no')", "the template ended with"),
        (
            "import sys, types\nsys.modules['tensorflow.python.eager.context'] = types.SimpleNamespace("
            "_context=types.SimpleNamespace(_initialized=True))",
            "TensorFlow has run an operation",
        ),
    ],
)
def test_what_is_not_fit_to_be_forked_is_refused(tmp_path, body, says):
    (tmp_path / "unfit_module.py").write_text(body)
    with pytest.raises(Unavailable, match=says):
        Template({**os.environ, "PYTHONPATH": str(tmp_path)}, ["unfit_module"])


def test_modules_that_are_not_installed_are_passed_over():
    Template(dict(os.environ), ["no_such_module_here", "json"]).close()


def test_a_template_that_has_run_an_operation_is_refused(tmp_path):
    (tmp_path / "operates.py").write_text("import keras\nkeras.ops.zeros(1)\n")
    with pytest.raises(Unavailable, match="TensorFlow has run an operation in it"):
        Template({**kernel_environment(Request("")), "PYTHONPATH": str(tmp_path)}, ["operates"])
