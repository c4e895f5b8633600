"""A mini course to grade in seconds, and one warm bench for all tests that need a sandbox."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from course.authoring.build import build
from course.authoring.check import fix
from course.grading import sandbox
from course.grading.batch import Local
from course.grading.bench import PACKAGE, UTILITIES
from course.manifest import KINDS, load

MINICOURSE = Path(__file__).parent.parent / "minicourse"


@pytest.fixture(scope="session")
def mini(tmp_path_factory):
    """The root of the mini course, built; tests read it only."""
    root = tmp_path_factory.mktemp("minicourse") / "mini"
    shutil.copytree(MINICOURSE, root)
    manifest = load(root)
    fix(manifest, manifest.notebooks(KINDS))
    build(manifest)
    return root


@pytest.fixture(scope="session")
def manifest(mini):
    return load(mini)


@pytest.fixture(scope="session")
def lab(manifest):
    return manifest.select(["01"], ("lab",))[0]


@pytest.fixture(scope="session")
def sandboxed():
    """Without a sandbox the test is skipped."""
    why = sandbox.works()
    if why is not None:
        pytest.skip(f"no sandbox here: {why}")


@pytest.fixture(scope="session")
def boxes(sandboxed):
    """The grader of this machine, with templates that stay warm from test to test."""
    local = Local()
    yield local
    local.close()


@pytest.fixture
def notebook(lab):
    """The lab as handed out, as JSON to break."""
    return json.loads(lab.path.read_text(encoding="utf-8"))


@pytest.fixture
def solved(notebook, answered):
    """The lab with right answers."""
    return answered(notebook, add="def add(a, b):\n    return a + b\n", double="def double(a):\n    return add(a, a)\n")


@pytest.fixture(scope="session")
def answered():
    """Function of a notebook and answers by gap: a copy of it with these answers."""

    def answered(notebook, **answers):
        copy = json.loads(json.dumps(notebook))
        for cell in copy["cells"]:
            if cell["metadata"].get("gap") in answers:
                cell["source"] = answers[cell["metadata"]["gap"]]
        return copy

    return answered


@pytest.fixture
def as_user(sandboxed):
    """Function of a folder and a command: the command, run by a user without any right, who may write into the folder
    and has a home in it.
    """

    def as_user(place, command):
        home = place / "home"
        home.mkdir()
        for path in (place, *place.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o777)
        needed = [*sandbox.python_folders(), PACKAGE, UTILITIES]
        line = sandbox.as_nobody(needed, list(map(str, command)), user=61183)
        # the user cannot read what root's own variables may point to
        own = dict.fromkeys(("HOME", "TMPDIR", "KERAS_HOME", "COURSE_DATA"), str(home))
        return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **own})

    return as_user


@pytest.fixture
def cluster(tmp_path):
    """Function of a number: a scheduler and so many workers, each a process of its own on the loopback interface. Gives
    the address and the workers' processes.
    """
    pytest.importorskip("distributed")
    started = []

    def start(what, *words):
        line = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
        started.append(subprocess.Popen(line, **quiet))
        return started[-1]

    def cluster(count):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        start("scheduler", "--host", "127.0.0.1", "--port", str(port))
        options = ["--nthreads", "1", "--no-nanny", "--local-directory", str(tmp_path / "dask")]
        workers = [start("worker", address, *options) for _ in range(count)]
        from distributed import Client

        with Client(address, timeout=120) as client:
            client.wait_for_workers(count, timeout=120)
        return address, workers

    yield cluster
    for process in started:
        process.kill()
        process.wait()
