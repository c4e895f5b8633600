import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def prepared_cache(tmp_path_factory):
    """A cache of prepared data that the tests of one session share, so that each set is prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(prepared_cache, monkeypatch):
    """No test touches the user's cache, none reads COURSE_DATA unless it asks, and the catalogue forgets its sources
    after each.
    """
    from utils.data import catalogue

    monkeypatch.setenv("COURSE_CACHE", str(prepared_cache))
    monkeypatch.delenv("COURSE_DATA", raising=False)
    catalogue._source.cache_clear()
    yield
    catalogue._source.cache_clear()


@pytest.fixture
def python():
    """Runs Python code in a process of its own; returns the started `Popen`."""

    def start(code, *arguments, **environment):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    started = []

    def tracked(*arguments, **environment):
        started.append(start(*arguments, **environment))
        return started[-1]

    yield tracked
    for process in started:
        process.kill()
        process.communicate()
