"""What README promises of every notebook: run twice on one machine, it records the same values to the last bit.

`make twice` runs all of them in smoke, about twenty minutes; `make test` runs one."""

from pathlib import Path

import pytest

from course.execution.run import request
from course.execution.worker import spawn
from course.manifest import load
from course.parameters import resolve

MANIFEST = load(Path(__file__).resolve().parents[1])
QUICK = "02/solution"  # which trains


def cases():
    for notebook in MANIFEST.notebooks():
        marks = [pytest.mark.once] if notebook.id == QUICK else [pytest.mark.twice]
        yield pytest.param(notebook, marks=marks, id=notebook.id)


def recorded(notebook):
    profile = MANIFEST.profile("smoke")
    parameters = resolve(notebook.path, notebook.overrides(profile.name), notebook.relative)
    result, _ = spawn(request(notebook, profile, parameters))
    assert result.status == "passed", result.error
    return {name: value for name, value in result.metrics.items() if not MANIFEST.is_timed(name)}


@pytest.mark.parametrize("notebook", cases())
def test_a_notebook_that_is_run_twice_records_the_same(notebook):
    once = recorded(notebook)
    assert set(once) >= {name for name in notebook.spec.metrics if not MANIFEST.is_timed(name)}
    assert recorded(notebook) == once
