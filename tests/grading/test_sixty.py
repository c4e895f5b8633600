"""Sixty submissions of two labs as a term brings them, honest, partly right, hostile and broken, through the command:
each gets the marks that it must get, as root, as an ordinary user, and on a cluster that loses a worker.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
from test_hostile import ENDING, FORGED, HOLES, LYING
from test_labs import MANIFEST, ROOT, partly_right, solution

from course.grading.release import Release

pytestmark = pytest.mark.grading
LABS = ("01", "12")
GAP, FUNCTION = "output-size", "output_size"  # of lab 01: what the attacks are answers to


def hostile(release):
    """Name -> answers of lab 01 that are right but for one gap, which attacks."""
    whole = solution(release)
    right = whole[GAP].replace(f"def {FUNCTION}", "def right")
    attacks = {**{name: answer for name, (answer, _) in ENDING.items()}, **LYING, **FORGED}
    chosen = dict(list(attacks.items())[::3])
    chosen |= {
        name: f"{right}\n{HOLES[name]}" for name in ("the solutions", "other processes", "to be root", "a fork bomb")
    }
    named = {}
    for name, answer in chosen.items():
        answer = answer.replace("def add(a, b)", f"def {FUNCTION}(*a, **b)").replace("a + b", "right(*a, **b)")
        named[name] = {**whole, GAP: answer}
    return named


def odd_but_right(text):
    """Name -> a notebook with every right answer, as programs and people leave it."""
    without_ids, reversed_, edited, loaded, magic = (json.loads(text) for _ in range(5))
    without_ids["nbformat_minor"] = 0
    for cell in without_ids["cells"]:
        cell.pop("id", None)
    reversed_["cells"].reverse()
    for cell in edited["cells"]:
        if "check" in cell["metadata"]:
            cell["source"] = "print('passed')"
    for cell in loaded["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [
                {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>1</script>" * 9999}}
            ]
    magic["cells"].insert(
        4, {"cell_type": "code", "source": "%pip install torch\nname = input()", "metadata": {}, "outputs": []}
    )
    return {
        "from Colab": json.dumps(without_ids),
        "another order": json.dumps(reversed_),
        "checks edited": json.dumps(edited),
        "a script in every output": json.dumps(loaded),
        "magic and input": json.dumps(magic),
        "a byte order mark": "\ufeff" + text,
        "=HYPERLINK(1)": text,
        "; rm -rf $(pwd) `id` & '\"": text,
        "two\nlines": text,
        "x" * 240: text,
    }


BROKEN = {
    "empty": b"",
    "half": b'{"cells": [',
    "an archive": b"PK\x03\x04" + bytes(9999),
    "no text": b"\x80\x81",
    "deep": b"[" * 100_000,
    "of nbformat 3": b'{"worksheets": [{"cells": []}], "nbformat": 3}',
}


@pytest.fixture(scope="module")
def sixty(tmp_path_factory, answered):
    """The folder, and the points of each submission."""
    folder, place = tmp_path_factory.mktemp("term") / "submissions", tmp_path_factory.mktemp("plain")
    folder.mkdir()
    first, last = (Release(MANIFEST, lab) for lab in MANIFEST.select(LABS, ("lab",)))
    points = {}

    def add(name, content, total):
        path = folder / f"{name}.ipynb"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        points[name] = Fraction(total)

    for release in (first, last):
        full, tag = sum(release.worth(gap.name) for gap in release.gaps), release.name[:2]
        lab = json.loads(release.notebook.path.read_text(encoding="utf-8"))

        def handed_in(answers, lab=lab):
            return json.dumps(answered(lab, **answers))

        add(f"{tag} right", handed_in(solution(release)), full)
        add(f"{tag} untouched", handed_in({}), 0)
        for number, (answers, lost) in enumerate(partly_right(release, place)):
            gone = sum(check.points for check in release.checks if check.id in lost)
            add(f"{tag} partly {number}", handed_in(answers), full - gone)
        if release is first:
            for name, text in odd_but_right(handed_in(solution(release))).items():
                add(name, text, full)
            for number, answers in enumerate(hostile(release).values()):
                add(f"{tag} hostile {number}", handed_in(answers), full - release.worth(GAP))
    for name, content in BROKEN.items():
        add(name, content, 0)
    (folder / "a link.ipynb").symlink_to(ROOT / "solutions" / f"{first.name}.ipynb")
    points["a link"] = Fraction(0)
    os.mkfifo(folder / "a pipe.ipynb")
    points["a pipe"] = Fraction(0)
    add("of another lab", (ROOT / "labs" / "03_classic_architectures.ipynb").read_bytes(), 0)
    assert len(points) >= 60
    return folder, points


def command(folder, out, *options, root=ROOT):
    labs = [word for lab in LABS for word in ("--lab", lab)]
    limits = ["--cell-seconds", "20", "--memory-gb", "2", "--no-pages"]
    return [sys.executable, "-m", "course", "grade", folder, *labs, *limits, "--root", root, "-o", out, *options]


def totals(out):
    """Points by submission; the table takes what could be a formula, or more than a line, out of a name."""
    found = {}
    for path in Path(out).glob("*/grades.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                assert row["submission"] not in found, "each once"
                found[row["submission"].removeprefix("'")] = Fraction(row["total"])
    return found


def shown(points):
    return {name.replace("\n", "\\n"): total for name, total in points.items()}


def processes():
    return [p for p in psutil.process_iter(["name"]) if "bwrap" in (p.info["name"] or "")]


def test_sixty_submissions_get_the_marks_that_they_must_get(sandboxed, sixty, tmp_path):
    folder, points = sixty
    before, kept = processes(), sorted(path.name for path in ROOT.iterdir())
    done = subprocess.run(command(folder, tmp_path / "out"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert totals(tmp_path / "out") == shown(points)
    _, left = psutil.wait_procs([p for p in processes() if p not in before], timeout=30)  # the killed take a moment
    assert left == [] and sorted(path.name for path in ROOT.iterdir()) == kept
    pages = list((tmp_path / "out").glob("*/feedback/*.html"))
    assert len(pages) == len(points)
    assert not any("<script" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_comes_to_the_same_marks(as_user, sixty):
    folder, points = sixty
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="course-grading-test-") as name:
        place = Path(name)
        for part in ("labs", "solutions", "sources", "utils"):
            shutil.copytree(ROOT / part, place / "course" / part)
        shutil.copy(ROOT / "course.toml", place / "course")
        ignored = lambda _, names: [n for n in names if n == "a pipe.ipynb"]  # noqa: E731
        shutil.copytree(folder, place / "submissions", symlinks=True, ignore=ignored)
        os.mkfifo(place / "submissions" / "a pipe.ipynb")
        done = as_user(place, command(place / "submissions", place / "home" / "out", root=place / "course"))
        assert done.returncode == 0, done.stderr
        assert totals(place / "home" / "out") == shown(points)


def test_a_cluster_that_loses_a_worker_comes_to_the_same_marks(sandboxed, cluster, sixty, tmp_path):
    folder, points = sixty
    address, workers = cluster(2)
    options = ["--executor", "dask", "--scheduler", address, "--jobs", "4"]
    line = command(folder, tmp_path / "out", *options)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as running:
        graded = 0
        for told in running.stdout:
            graded += told.rstrip().endswith("  graded")
            if graded == 5 and workers[0].poll() is None:
                workers[0].send_signal(signal.SIGKILL)
                workers[0].wait()
        assert running.wait() == 0, running.stderr.read()
    assert graded > 40 and totals(tmp_path / "out") == shown(points)
