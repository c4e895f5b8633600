"""`course run --executor dask` with a real scheduler and real workers, each a process on 127.0.0.1."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from course.errors import CourseError
from course.execution import dask, template
from course.execution.run import run
from course.manifest import load

pytest.importorskip("distributed")


class Cluster:
    """A scheduler and its workers, as a user starts them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.preload = folder / "preload.py"
        self.preload.write_text(f"from course.execution import template\ntemplate.MODULES = {template.MODULES}\n")
        self.log = open(folder / "log", "wb")  # noqa: SIM115
        self.workers: list[subprocess.Popen] = []
        self.scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", str(self.file), "--no-show")
        assert wait_for(lambda: self.file.is_file() and self.file.read_text().endswith("}"))
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, kind: str, *options: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            f"distributed.cli.dask_{kind}",
            "--host",
            "127.0.0.1",
            "--no-dashboard",
            *options,
        ]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=self.file.parent)

    def worker(self) -> subprocess.Popen:
        options = ("--no-nanny", "--nthreads", "1", "--preload", str(self.preload))
        self.workers.append(self.start("worker", self.address, *options))
        return self.workers[-1]

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


def wait_for(condition, seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


def replace_code(path: Path, old: str, new: str) -> None:
    document = json.loads(path.read_text())
    (cell,) = [cell for cell in document["cells"] if old in "".join(cell["source"])]
    cell["source"] = "".join(cell["source"]).replace(old, new)
    path.write_text(json.dumps(document))


def go(root: Path, cluster: Cluster, *selectors: str):
    manifest = load(root)
    return run(manifest, manifest.select(list(selectors)), "smoke", executor="dask", scheduler=cluster.address)


def test_notebooks_and_data_travel_as_bytes(mini, cluster, monkeypatch):
    cluster.worker()
    monkeypatch.delenv("COURSE_DATA", raising=False)
    lecture, solution = go(mini, cluster)
    assert lecture.good and solution.good, (lecture, solution)
    assert lecture.result.metrics == {"total": 6.0} and lecture.result.kernel
    assert lecture.result.notebook == str(mini / "lectures/01_addition.ipynb")
    assert all(outcome.cached for outcome in go(mini, cluster)), "what has passed elsewhere is not run again"

    away = mini / "archives"
    (away / "deep").mkdir(parents=True)
    (away / "deep" / "clothing.zip").write_bytes(b"\x00data")
    monkeypatch.setenv("COURSE_DATA", str(away))
    look = "import os, pathlib\nhere = pathlib.Path(os.environ['COURSE_DATA'])\n"
    look += f"print(here != pathlib.Path({str(away)!r}), (here / 'deep' / 'clothing.zip').read_bytes())\n"
    look += "print(label, total)"
    replace_code(mini / "lectures/01_addition.ipynb", "print(label, total)", look)
    (lecture,) = go(mini, cluster, "01/lecture")
    assert lecture.good and not lecture.cached
    assert "True b'\\\\x00data'" in (mini / "build/run/smoke/lectures/01_addition.ipynb").read_text()


def test_a_worker_that_is_killed_costs_nothing_but_time(mini, cluster, tmp_path):
    first = cluster.worker()
    mark = tmp_path / "began"
    waits = f"import pathlib, time\nmark = pathlib.Path({str(mark)!r})\n"
    waits += "if not mark.exists():\n    mark.touch()\n    time.sleep(600)\n"
    replace_code(mini / "lectures/01_addition.ipynb", "print(label, total)", waits + "print(label, total)")

    def kill():
        assert wait_for(mark.exists)
        cluster.worker()
        first.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    (lecture,) = go(mini, cluster, "01/lecture")
    thread.join()
    assert lecture.good, lecture.result.error
    assert wait_for(lambda: not kernels_below(first.pid)), "what the dead worker ran is gone"


def kernels_below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True) if psutil.pid_exists(pid) and pid != os.getpid() else []


def test_no_worker_is_one_line(mini, cluster, monkeypatch):
    monkeypatch.setattr(dask, "WORKER_SECONDS", 2.0)
    with pytest.raises(CourseError, match=r"^no Dask worker at tcp://127\.0\.0\.1:\d+ within 2 s: start one$"):
        go(mini, cluster)


def test_a_scheduler_that_goes_away_is_one_line_and_what_has_passed_is_kept(mini, cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(dask, "SCHEDULER_SECONDS", 3.0)
    cluster.worker()
    mark = tmp_path / "began"
    waits = f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(600)\nprint(label, total)"
    replace_code(mini / "lectures/01_addition.ipynb", "print(label, total)", waits)

    def end():
        assert wait_for(mark.exists)
        cluster.scheduler.send_signal(signal.SIGKILL)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(
        CourseError, match=r"^the Dask scheduler at tcp://127\.0\.0\.1:\d+ is gone; what has passed is kept$"
    ) as caught:
        go(mini, cluster, "01/lecture")
    thread.join()
    assert caught.value.code == 1


def test_no_scheduler_is_one_line(mini):
    manifest = load(mini)
    with pytest.raises(CourseError, match=r"^no Dask scheduler at tcp://127\.0\.0\.1:1: "):
        run(manifest, manifest.notebooks(), "smoke", executor="dask", scheduler="tcp://127.0.0.1:1")
