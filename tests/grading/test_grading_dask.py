"""A cluster: its own processes on the loopback interface, no common disk needed, and a worker that is killed in the
middle.
"""

import csv
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from course.errors import CourseError
from course.grading import sandbox
from course.grading.batch import Batch
from course.grading.dask import connect
from course.grading.sandbox import Limits

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.grading
LIMITS = Limits(cell_seconds=10)


@pytest.fixture
def sandboxed():
    why = sandbox.works()
    if why is not None:
        pytest.skip(f"no sandbox here: {why}")


@pytest.fixture
def submissions(tmp_path, solved, answered):
    """Eight right answers, no two the same, each of which takes a moment."""
    folder = tmp_path / "submissions"
    folder.mkdir()
    for number in range(8):
        add = f"import time\n\ndef add(a, b):\n    time.sleep(.3)  # {number}\n    return a + b\n"
        (folder / f"student{number}.ipynb").write_text(json.dumps(answered(solved, add=add)), encoding="utf-8")
    return folder


def grade(manifest, lab, submissions, out, executor, jobs=4, on_first=lambda: None):
    batch = Batch(manifest, [lab], out, limits=LIMITS, pages=False)
    tasks, _ = batch.tasks(submissions)
    outcomes, first = Counter(), threading.Event()

    def done(task, what):
        outcomes.update([what])
        if not first.is_set():
            first.set()
            on_first()

    batch.run(tasks, executor, jobs, done)
    batch.write(tasks)
    with (out / lab.stem / "grades.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return outcomes, {row["submission"]: row["total"] for row in rows}, list((out / lab.stem / "kept").glob("*.json"))


EXPECTED = {f"student{number}": "3" for number in range(8)}


def test_a_local_cluster(sandboxed, manifest, lab, submissions, tmp_path):
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        executor = connect(cluster.scheduler_address)
        outcomes, totals, kept = grade(manifest, lab, submissions, tmp_path / "out", executor)
        executor.close()
    assert totals == EXPECTED and outcomes == {"graded": 8} and len(kept) == 8


def test_a_killed_worker_loses_nothing_and_nothing_is_graded_twice(sandboxed, manifest, lab, submissions, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli"]
    start = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    scheduler = subprocess.Popen(
        [*dask[:2], "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        **start,
    )
    workers = []
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.2)
        for _ in range(2):
            worker = [
                *dask[:2],
                "distributed.cli.dask_worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
            ]
            workers.append(subprocess.Popen([*worker, "--local-directory", str(tmp_path / "dask")], **start))
        executor = connect(address)
        executor._client.wait_for_workers(2, timeout=120)
        killed = lambda: workers[0].send_signal(signal.SIGKILL)  # noqa: E731
        outcomes, totals, kept = grade(manifest, lab, submissions, tmp_path / "out", executor, on_first=killed)
        executor.close()
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
    assert totals == EXPECTED
    assert outcomes == {"graded": 8} and len(kept) == 8, "each once"


def test_no_scheduler_is_one_line():
    with pytest.raises(CourseError, match="no Dask scheduler"):
        connect("tcp://127.0.0.1:9")
