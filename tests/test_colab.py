"""The set-up cell, executed as Colab does, with stand-ins for Colab and for the network but not for git and pip."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COURSE = tomllib.loads((ROOT / "course.toml").read_text())["course"]
SITE = Path(pytest.__file__).parents[1]


def setup_cells():
    cells = {}
    for path in sorted(ROOT.glob("l*s/*.ipynb")) + sorted(ROOT.glob("solutions/*.ipynb")):
        notebook = json.loads(path.read_text())
        [cell] = [cell for cell in notebook["cells"] if "setup" in cell["metadata"].get("tags", [])]
        cells[str(path.relative_to(ROOT))] = "".join(cell["source"])
    return cells


@pytest.fixture(scope="module")
def cell():
    cells = setup_cells()
    assert len(cells) >= 6
    assert len(set(cells.values())) == 1, f"set-up cells differ: {sorted(cells)}"
    return next(iter(cells.values()))


@pytest.fixture
def bare(tmp_path):
    """An interpreter with every package of the environment, but without the course: what a Colab machine is."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    # PYTHONPATH serves the packages and does not read the .pth file that makes the course itself importable.
    environment = {**os.environ, "PYTHONPATH": str(SITE), "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    environment |= {
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(tmp_path / "cache"),
    }

    def run(code, **more):
        folder = tmp_path / "content"
        folder.mkdir(exist_ok=True)
        command = [tmp_path / "venv" / "bin" / "python", "-c", code]
        return subprocess.run(command, cwd=folder, env=environment | more, capture_output=True, text=True)

    return run


@pytest.fixture
def origin(tmp_path):
    """The repository at its address, as far as git can tell: a local clone with the tag, behind `url.insteadOf`."""
    clone = tmp_path / "origin"
    clone.mkdir()
    for name in ("utils", "course"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text", "course.toml"):
        shutil.copy(ROOT / name, clone / name)
    git = ["git", "-C", clone, "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "release"], ["tag", COURSE["tag"]]):
        subprocess.run(git + words, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf",
        "GIT_CONFIG_VALUE_0": COURSE["repository"],
    }


COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"


def test_on_colab_the_course_comes_from_its_address_and_tag(cell, bare, origin):
    use = "\nfrom utils.arithmetic import output_size\nimport utils\nprint(output_size(5, 3), utils.__file__)"
    assert "No module named 'utils'" in bare("import utils").stderr
    done = bare(COLAB + cell + use, **origin)
    assert done.returncode == 0, done.stderr
    answer = done.stdout.splitlines()[-1]
    assert answer.startswith("3 ") and "/venv/lib/" in answer


def test_on_colab_without_the_tag_the_install_fails_aloud(cell, bare, origin):
    done = bare(COLAB + cell.replace(COURSE["tag"], "v999"), **origin)
    assert done.returncode != 0
    assert "v999" in done.stderr


def test_elsewhere_nothing_is_installed(cell, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: calls.append(words))
    exec(compile(cell, "setup", "exec"), {})
    assert not calls


def test_without_the_course_one_line_says_so(cell, bare):
    done = bare(cell)
    assert done.returncode != 0
    assert "README" in done.stderr.splitlines()[-1]


def test_a_utils_of_the_students_own_is_named(cell, bare, tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "utils.py").write_text("answer = 42\n")
    done = bare(cell)
    assert done.returncode != 0
    assert str(tmp_path / "content" / "utils.py") in done.stderr.splitlines()[-1]
    assert "rename" in done.stderr.splitlines()[-1]
