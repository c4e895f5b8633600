"""The mini course, copied where a test may break it."""

import shutil
from pathlib import Path

import pytest

from course.authoring.assemble import store_outputs
from course.authoring.build import build
from course.authoring.check import fix
from course.execution import template
from course.manifest import KINDS, load

# What a template imports for notebooks that compute nothing: the rest takes five seconds of CPU time for each
# environment.
LIGHT = tuple(
    name for name in template.MODULES if name.partition(".")[0] in ("papermill", "nbformat", "psutil", "ipykernel")
)

MINICOURSE = Path(__file__).parent.parent / "minicourse"


@pytest.fixture(scope="session", autouse=True)
def light_template():
    """Kernels are forked from a template without Keras, in this process; what is started from here says so itself."""
    before, template.MODULES = template.MODULES, LIGHT
    yield
    template.close_all()
    template.MODULES = before


@pytest.fixture(scope="session")
def built_minicourse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini course as a maintainer leaves it: set-up cells written, everything built, the checked output stored."""
    root = tmp_path_factory.mktemp("minicourse") / "mini"
    shutil.copytree(MINICOURSE, root)
    manifest = load(root)
    fix(manifest, manifest.notebooks(KINDS))
    assert {built.state for built in build(manifest)} <= {"written", "unchanged"}
    lecture = manifest.select(["01/lecture"])[0]
    checked = next(cell for cell in _cells(lecture.path) if "nbval-check-output" in cell["metadata"].get("tags", []))
    store_outputs(lecture, {checked["id"]: "3\n"})
    return root


@pytest.fixture
def mini(built_minicourse: Path, tmp_path: Path) -> Path:
    """The root of a copy of the mini course, complete and without findings."""
    return Path(shutil.copytree(built_minicourse, tmp_path / "mini"))


def _cells(path: Path) -> list[dict]:
    import json

    return json.loads(path.read_text(encoding="utf-8"))["cells"]
