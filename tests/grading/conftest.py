"""A mini course to grade in seconds, and one warm bench for all tests that need a sandbox."""

import json
import shutil
from pathlib import Path

import pytest

from course.authoring.build import build
from course.authoring.check import fix
from course.grading import sandbox
from course.grading.batch import Local
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
def boxes():
    """The grader of this machine, with templates that stay warm from test to test; without a sandbox the test is
    skipped.
    """
    why = sandbox.works()
    if why is not None:
        pytest.skip(f"no sandbox here: {why}")
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
