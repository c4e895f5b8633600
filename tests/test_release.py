"""A release is refused in one line while anything it needs is missing."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "release.py"
FILES = {
    "CHANGELOG.md": "# Changes\n\n## 0.2.0, 2026-12-01\n\n- Slides.\n\n## 0.1.0, 2026-11-21\n\n- All.\n",
    "CITATION.cff": "cff-version: 1.2.0\nversion: 0.2.0\ndate-released: 2026-12-01\n",
    "pyproject.toml": '[project]\nname = "x"\nversion = "0.2.0"\n',
    "course.toml": '[course]\ntag = "v0.2.0"\n',
}


@pytest.fixture(scope="module")
def release():
    specification = importlib.util.spec_from_file_location("release", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def git(root, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """Function from changed files to a repository in which they are committed."""

    def make(**changed):
        git(tmp_path, "init")
        for name, text in (FILES | changed).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--message", "all")
        return tmp_path

    return make


def test_what_is_ready_gives_the_changelogs_section(release, repository):
    assert release.look(repository(), "0.2.0", "2026-12-01") == "- Slides."


def replaced(name, old, new):
    assert old in FILES[name]
    return {name: FILES[name].replace(old, new)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (replaced("CHANGELOG.md", "## 0.2.0", "## 0.2.1"), "expected a section `## 0.2.0, YEAR-MONTH-DAY`, got none"),
        (replaced("CHANGELOG.md", ", 2026-12-01", ", not yet tagged"), "got `## 0.2.0, not yet tagged`"),
        (replaced("CHANGELOG.md", "- Slides.\n", ""), "says nothing below `## 0.2.0, 2026-12-01`"),
        (replaced("CHANGELOG.md", "2026-12-01", "2026-11-30"), "expected today's date (2026-12-01) beside 0.2.0"),
        (replaced("pyproject.toml", "0.2.0", "0.1.0"), "pyproject.toml: version: expected 0.2.0, got 0.1.0"),
        (replaced("course.toml", "v0.2.0", "v0.1.0"), "course.toml: tag: expected v0.2.0, got v0.1.0"),
        (replaced("CITATION.cff", "version: 0.2.0", "version: 0.1.0"), "CITATION.cff: version: expected 0.2.0"),
        (replaced("CITATION.cff", "2026-12-01", "2026-11-21"), "CITATION.cff: date-released: expected 2026-12-01"),
    ],
)
def test_what_is_not_ready_is_told(release, repository, changed, said):
    with pytest.raises(release.Fault) as told:
        release.look(repository(**changed), "0.2.0", "2026-12-01")
    assert said in str(told.value) and "\n" not in str(told.value)


def test_a_version_is_three_numbers(release, repository):
    with pytest.raises(release.Fault, match=r"expected a version such as 1\.2\.3, got v0\.2\.0"):
        release.look(repository(), "v0.2.0", "2026-12-01")


def test_the_tree_must_be_clean(release, repository):
    root = repository()
    (root / "notes.txt").write_text("x")
    with pytest.raises(release.Fault, match=r"clean working tree, got 1 changes, such as `\?\? notes\.txt`"):
        release.look(root, "0.2.0", "2026-12-01")


def test_a_released_version_stays(release, repository):
    root = repository()
    git(root, "tag", "v0.2.0")
    with pytest.raises(release.Fault, match=r"the tag v0\.2\.0 is there already"):
        release.look(root, "0.2.0", "2026-12-01")


def test_the_wheel_has_the_files_that_people_miss_first(release):
    assert all((SCRIPT.parents[1] / name).is_file() for name in release.FILES)
