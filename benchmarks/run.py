"""How long `course run` takes for some notebooks, beside papermill one notebook after the other, and beside nbval.

    python benchmarks/run.py [01/lecture 03/lecture 03/solution]

All with the profile smoke. `course run --fresh` executes them anew, as many side by side as the profile says, with one
import of TensorFlow for all; then `course run` again, which takes everything from the cache. The peers do what one does
without this course: papermill on each notebook in turn, with the same parameters, and one `pytest --nbval-lax` over the
notebooks with these parameters in them. Kernels have the profile's number of threads everywhere. Seconds on the clock,
which other work on the machine lengthens, and CPU seconds: those of the processes that a command waits for, and for
`course run`, whose kernels belong to a template, those that the results of the notebooks tell.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from course.execution.worker import Request, kernel_environment
from course.manifest import load
from course.proving.test import PROFILE, prepare
from course.reporting.report import executed

ROOT = Path(__file__).resolve().parents[1]


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(commands, environment):
    """Seconds on the clock and CPU seconds of the commands, one after the other. Each must succeed."""
    clock, cpu = time.perf_counter(), children()
    for command in commands:
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return time.perf_counter() - clock, children() - cpu


def with_kernels(seconds, chosen):
    """The CPU seconds with those of the notebooks that `course run` executed just now."""
    results = [executed(load(ROOT), notebook, PROFILE).with_suffix(".json") for notebook in chosen]
    clock, cpu = seconds
    return clock, cpu + sum(json.loads(path.read_text(encoding="utf-8"))["cpu_seconds"] for path in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("notebooks", nargs="*", default=["01/lecture", "03/lecture", "03/solution"])
    options = parser.parse_args()
    manifest = load(ROOT)
    profile = manifest.profile(PROFILE)
    chosen = manifest.select(options.notebooks, ("lecture", "solution"))
    environment = kernel_environment(Request("", threads=profile.threads), os.environ)
    ours = [sys.executable, "-m", "course", "run", *(notebook.id for notebook in chosen), "--profile", profile.name]
    with tempfile.TemporaryDirectory() as name:
        prepared, papermill = [], []
        for notebook in chosen:
            prepared.append(Path(name, f"{notebook.stem}-{notebook.kind}.ipynb"))
            prepare(notebook, prepared[-1])
            values = json.dumps(notebook.overrides(profile.name))  # JSON is YAML
            command = [sys.executable, "-m", "papermill", notebook.path, os.devnull, "--no-progress-bar", "-y", values]
            papermill.append(command)
        nbval = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "nbval", "--nbval-lax"]
        nbval += ["--nbval-cell-timeout=3600", "--rootdir", name, *prepared]
        times = {
            "course run, everything anew": with_kernels(timed([[*ours, "--fresh"]], environment), chosen),
            "course run again": timed([ours], environment),
            "papermill, one after the other": timed(papermill, environment),
            "pytest --nbval-lax": timed([nbval], environment),
        }
    names = ", ".join(notebook.id for notebook in chosen)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{names}, profile {profile.name}, {profile.jobs} side by side, {os.cpu_count()} cores, load {loads}")
    base = times["papermill, one after the other"]
    for what, (clock, cpu) in times.items():
        print(f"{what:32} {clock:7.1f} s ({clock / base[0]:.2f})   {cpu:7.1f} CPU s ({cpu / base[1]:.2f})")


if __name__ == "__main__":
    main()
