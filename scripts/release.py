"""Tags a release, after everything that a release needs was looked at: `make release VERSION=0.2.0` calls it.

    python scripts/release.py 0.2.0

Nothing is pushed and no file is changed: the version stands in pyproject.toml, course.toml (`tag`), CITATION.cff and
CHANGELOG.md before, committed. Looks at these and at the working tree, then runs lint, the unit tests of pages and
links, builds sdist and wheel into dist/, tries the wheel's files, and makes the annotated tag with the changelog's
section as its message. The first fault ends it in one line, without a tag.
"""

import argparse
import datetime
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What people miss first when a wheel lacks it.
FILES = ("utils/session.py", "utils/data/archives.toml", "course/cli.py", "course/reporting/templates/style.css")


class Fault(Exception):
    """A reason not to release, in one line."""


def git(root, *words):
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def section(changelog, version):
    """(date, text) of a version in the changelog; Fault where it has none or is not dated."""
    found = re.search(rf"^## {re.escape(version)}(.*)\n((?:(?!^## ).*\n?)*)", changelog, re.MULTILINE)
    if not found:
        raise Fault(f"CHANGELOG.md: expected a section `## {version}, YEAR-MONTH-DAY`, got none")
    dated = re.fullmatch(r", (\d{4}-\d{2}-\d{2})", found[1].rstrip())
    if not dated:
        raise Fault(f"CHANGELOG.md: expected `## {version}, YEAR-MONTH-DAY`, got `## {version}{found[1]}`")
    if not found[2].strip():
        raise Fault(f"CHANGELOG.md: says nothing below `## {version}{found[1]}`")
    return dated[1], found[2].strip()


def look(root, version, today):
    """The changelog's text for this version, when tree, tags and versions are as a release needs them; else a Fault."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Fault(f"expected a version such as 1.2.3, got {version}")
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        raise Fault(f"expected a clean working tree, got {len(changed)} changes, such as `{changed[0].strip()}`")
    if f"v{version}" in git(root, "tag", "--list").split():
        raise Fault(f"the tag v{version} is there already: a released version is never changed")
    date, text = section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if date != today:
        raise Fault(f"CHANGELOG.md: expected today's date ({today}) beside {version}, got {date}")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    cited = dict(re.findall(r"^(version|date-released): *\"?([^\"\n]*)\"?$", citation, re.MULTILINE))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    course = tomllib.loads((root / "course.toml").read_text(encoding="utf-8"))["course"]
    for where, got, expected in (
        ("pyproject.toml: version", project["version"], version),
        ("course.toml: tag", course["tag"], f"v{version}"),
        ("CITATION.cff: version", cited.get("version"), version),
        ("CITATION.cff: date-released", cited.get("date-released"), today),
    ):
        if got != expected:
            raise Fault(f"{where}: expected {expected}, got {got}")
    return text


def run(*words):
    """Run a command to its end, with its output shown. Fault when it fails."""
    print("$", *words, flush=True)
    if subprocess.run(words, cwd=ROOT).returncode:
        raise Fault(f"`{' '.join(words)}` failed")


def build(version):
    """sdist and wheel in dist/, with the files that must be in them."""
    run(sys.executable, "-m", "hatchling", "build", "--clean", "-d", "dist")
    [wheel] = (ROOT / "dist").glob(f"*-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in FILES:
        if name not in names:
            raise Fault(f"{wheel.name}: expected {name} in it")
    return wheel


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", help="such as 0.2.0, without the v")
    version = parser.parse_args().version
    try:
        text = look(ROOT, version, datetime.date.today().isoformat())
        run("make", "lint")
        run(sys.executable, "-m", "pytest", "-q", "tests/test_docs.py", "tests/test_environment.py")
        wheel = build(version)
        git(ROOT, "tag", "--annotate", f"v{version}", "--cleanup=verbatim", "--message", f"{version}\n\n{text}")
    except Fault as fault:
        sys.exit(f"scripts/release.py: {fault}")
    print(f"Tagged v{version}; {wheel.relative_to(ROOT)} is built. To publish: git push origin HEAD v{version}")


if __name__ == "__main__":
    main()
