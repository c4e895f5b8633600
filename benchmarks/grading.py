"""How many submissions of a lab are graded in an hour of one core, beside papermill and nbgrader; and whether memory
stays flat.

    python benchmarks/grading.py [--lab 01] [--submissions 20] [--peers 3] [--many 0]

Every submission is the lab's solution with a comment of its own, so that nothing comes from what is kept. The grader
marks them, once without and once with the page for each student. The peers do the same notebooks one by one: papermill
executes each (and gives no marks); nbgrader, where it is installed, autogrades each (in the student's own kernel,
without a sandbox). CPU seconds of all processes of a submission; the templates' own start (about 4 s for each of two,
once a run) is not in them. `--many 300` grades so many in one run and tells the largest resident memory of the grading
process at a tenth and at the end.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from course.grading.batch import Batch, Local
from course.grading.sandbox import Limits
from course.manifest import load

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    # nbgrader calls alembic, and starts the kernel named python3: those of this environment
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
}


def submissions(release, folder, count, offset=0):
    """Solutions of the lab, no two the same."""
    notebook = json.loads((release.notebook.root / "solutions" / f"{release.name}.ipynb").read_text(encoding="utf-8"))
    for number in range(offset, offset + count):
        copy = json.loads(json.dumps(notebook))
        for cell in copy["cells"]:
            if "gap" in cell["metadata"]:
                source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
                cell["source"] = f"# submission {number}\n{source}"
        (folder / f"student{number:03d}.ipynb").write_text(json.dumps(copy), encoding="utf-8")


def grade(manifest, lab, folder, out, pages, executor, jobs=1, watch=lambda: None):
    """CPU seconds of all submissions' processes, and wall seconds."""
    batch = Batch(manifest, [lab], out, limits=Limits(), pages=pages)
    tasks, _ = batch.tasks(folder)
    began = time.perf_counter()
    batch.run(tasks, executor, jobs, lambda task, what: watch())
    batch.write(tasks)
    wall = time.perf_counter() - began
    verdicts = [batch.outcome(task) for task in tasks]
    failed = [check for one in verdicts for check in one["verdict"]["checks"].values() if check["status"] != "passed"]
    assert not failed, failed[:3]
    cost = sum(one["verdict"]["cost"]["cpu_seconds"] for one in verdicts)
    cost += sum((one["executed"] or {}).get("cpu_seconds", 0) for one in verdicts)
    return cost, wall, max(one["verdict"]["cost"]["peak_bytes"] for one in verdicts)


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def papermill(manifest, lab, folder, count):
    """CPU seconds of one notebook by papermill alone."""
    before = children()
    parameters = [word for name, value in lab.overrides("smoke").items() for word in ("-y", json.dumps({name: value}))]
    for path in sorted(folder.glob("*.ipynb"))[:count]:
        command = [sys.executable, "-m", "papermill", path, os.devnull, "--no-progress-bar", *parameters]
        subprocess.run(command, check=True, env=ENVIRONMENT, cwd=ROOT, capture_output=True)
    return (children() - before) / count


def nbgrader(lab, folder, count):
    """CPU seconds of one notebook by nbgrader's autograde; None where it is not installed."""
    if subprocess.run([sys.executable, "-c", "import nbgrader"], capture_output=True).returncode:
        return None
    with tempfile.TemporaryDirectory() as name:
        course = Path(name)
        source = course / "source" / "lab"
        source.mkdir(parents=True)
        (source / "lab.ipynb").write_bytes((lab.root / "solutions" / f"{lab.stem}.ipynb").read_bytes())
        nbgrader = [sys.executable, "-m", "nbgrader"]
        subprocess.run(
            [*nbgrader, "generate_assignment", "lab"], cwd=course, env=ENVIRONMENT, check=True, capture_output=True
        )
        for path in sorted(folder.glob("*.ipynb"))[:count]:
            place = course / "submitted" / path.stem / "lab"
            place.mkdir(parents=True)
            (place / "lab.ipynb").write_bytes(path.read_bytes())
        before = children()
        timeout = "--ExecutePreprocessor.timeout=600"
        subprocess.run(
            [*nbgrader, "autograde", "lab", timeout], cwd=course, env=ENVIRONMENT, check=True, capture_output=True
        )
        return (children() - before) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--lab", default="01")
    parser.add_argument("--submissions", type=int, default=20)
    parser.add_argument("--peers", type=int, default=3, help="notebooks that each peer does")
    parser.add_argument("--many", type=int, default=0, help="submissions of one run whose memory is watched")
    options = parser.parse_args()
    manifest = load(ROOT)
    lab = manifest.select([options.lab], ("lab",))[0]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = place / "submissions"
        folder.mkdir()
        batch = Batch(manifest, [lab], place / "none", pages=False)
        submissions(batch.releases[0], folder, options.submissions)
        executor = Local()
        marks, wall, peak = grade(manifest, lab, folder, place / "marks", False, executor)
        marks /= options.submissions
        print(
            f"marks alone: {marks:.2f} CPU s a submission ({wall / options.submissions:.2f} s on the clock), "
            f"{peak / 2**20:.0f} MB"
        )
        pages, wall, peak = grade(manifest, lab, folder, place / "pages", True, executor)
        pages /= options.submissions
        print(f"marks and pages: {pages:.2f} CPU s a submission ({wall / options.submissions:.2f} s on the clock)")
        if options.many:
            submissions(batch.releases[0], folder, options.many - options.submissions, options.submissions)
            sizes = []
            watch = lambda: sizes.append(psutil.Process().memory_info().rss)  # noqa: E731
            cost, wall, _ = grade(manifest, lab, folder, place / "many", False, executor, os.cpu_count(), watch)
            print(
                f"{options.many} submissions: {cost:.0f} CPU s, {wall:.0f} s; "
                f"memory {sizes[len(sizes) // 10] >> 20} MB at a tenth, {sizes[-1] >> 20} MB at the end"
            )
        executor.close()
        peer = papermill(manifest, lab, folder, options.peers)
        print(
            f"papermill: {peer:.2f} CPU s; "
            f"{peer / marks:.1f} times marks alone, {peer / pages:.1f} times marks and pages"
        )
        other = nbgrader(lab, folder, options.peers)
        if other is None:
            print("nbgrader: not installed here")
        else:
            print(
                f"nbgrader: {other:.2f} CPU s; "
                f"{other / marks:.1f} times marks alone, {other / pages:.1f} times marks and pages"
            )


if __name__ == "__main__":
    main()
