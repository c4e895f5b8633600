"""A cluster: its own processes on the loopback interface, no common disk needed, and a worker that is killed in the
middle.
"""

import csv
import json
import signal
import threading
from collections import Counter

import pytest

from course.errors import CourseError
from course.grading.batch import Batch
from course.grading.dask import connect
from course.grading.sandbox import Limits

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.grading
LIMITS = Limits(cell_seconds=10)


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


def test_a_killed_worker_loses_nothing_and_nothing_is_graded_twice(
    sandboxed, cluster, manifest, lab, submissions, tmp_path
):
    address, workers = cluster(2)
    executor = connect(address)
    killed = lambda: workers[0].send_signal(signal.SIGKILL)  # noqa: E731
    outcomes, totals, kept = grade(manifest, lab, submissions, tmp_path / "out", executor, on_first=killed)
    executor.close()
    assert totals == EXPECTED
    assert outcomes == {"graded": 8} and len(kept) == 8, "each once"


def test_no_scheduler_is_one_line():
    with pytest.raises(CourseError, match="no Dask scheduler"):
        connect("tcp://127.0.0.1:9")
