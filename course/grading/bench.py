"""One submission's answers against its release: a judge and a submission's side, each in a sandbox of its own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from course.grading import release as releases
from course.grading.boxes import Child, Template
from course.grading.release import Release
from course.grading.sandbox import INSIDE, Limits

# What notebooks import: warm before the fork, so that no submission waits for it.
WARM = (
    "tensorflow",
    "keras",
    "numpy",
    "scipy.ndimage",
    "matplotlib.pyplot",
    "skimage",
    "sklearn.linear_model",
    "utils.data",
    "utils.introspection",
    "utils.plots",
    "utils.training",
    "utils.transfer",
    "utils.arithmetic",
    "utils.architectures",
    "utils.pretrained",
    "utils.segmentation",
    "utils.results",
    "utils.session",
)


class Bench:
    """The templates for one release. Any number of threads may judge at a time; each submission has processes of its own.

    Args:
        judges: a template that is shared by releases (`judge_template`).
    """

    def __init__(self, release: Release, judges: Template, limits: Limits) -> None:
        self.release, self.judges, self.limits = release, judges, limits
        self._folder = tempfile.TemporaryDirectory(prefix="course-grade-")
        package = Path(__file__).resolve().parents[1]
        # The box is entered as another user than root, who must be able to read what it shows.
        os.chmod(self._folder.name, 0o755)
        filtered = Path(self._folder.name, "utils")
        utilities = package.parent / "utils"
        filter_utilities(utilities, filtered, releases.withheld(release, utilities))
        self.submissions = Template(
            [*WARM, "course.grading.inside.player", "course.grading.inside.peer"],
            [(package, f"{INSIDE}/course"), (filtered, f"{INSIDE}/utils"), *data_mounts()],
            data_environment(),
        )

    def close(self) -> None:
        self.submissions.close()
        self._folder.cleanup()

    def judge(self, answers: Mapping[str, str]) -> dict[str, Any]:
        """The verdict on some answers: `checks` by id (status, text), `gaps`, `problem` (why no mark can be given, or None)."""
        began = time.monotonic()
        side: Child | None = None
        sides: list[dict[str, Any]] = []
        ours, theirs = socket.socketpair()
        limits = self.limits
        judge = self.judges.fork("course.grading.inside.judge:judge", limits, theirs)
        verdict: dict[str, Any] | None = None
        try:
            program = {"steps": self.release.program(answers), "cell_seconds": limits.cell_seconds}
            _send(ours, program)
            while verdict is None:
                ours.settimeout(max(1.0, began + limits.wall_seconds - time.monotonic()))
                message = _receive(ours)
                if message is None:
                    break
                if "need" in message:
                    if side is not None:
                        sides.append(side.close())
                    a, b = socket.socketpair()
                    side = self.submissions.fork("course.grading.inside.player:play", limits, a)
                    socket.send_fds(ours, [b"+"], [b.fileno()])
                    b.close()
                else:
                    verdict = message["verdict"]
        except (OSError, ValueError, KeyError) as error:
            verdict = {"checks": {}, "gaps": {}, "problem": f"the judge does not answer: {type(error).__name__}: {error}"}
        finally:
            ours.close()
            if side is not None:
                sides.append(side.close(grace=2.0 if verdict else 0.0))
            ended = judge.close(grace=2.0 if verdict else 0.0)
        if verdict is None:
            verdict = {"checks": {}, "gaps": {}, "problem": f"the judge ended before its verdict: {ended}"}
        verdict["cost"] = {
            "seconds": round(time.monotonic() - began, 2),
            "judge": ended,
            "submission": sides,
        }
        return verdict


def judge_template() -> Template:
    """The judges' template, which serves every release."""
    package = Path(__file__).resolve().parents[1]
    mounts = [(package, f"{INSIDE}/course"), (package.parent / "utils", f"{INSIDE}/utils"), *data_mounts()]
    return Template([*WARM, "course.grading.inside.judge", "course.grading.inside.peer"], mounts, data_environment())


def data_mounts() -> list[tuple[Path, str]]:
    """The folders of data that this environment names."""
    return [(Path(os.environ[name]).resolve(), f"/data/{name}") for name in ("COURSE_DATA", "KERAS_HOME") if _is_folder(name)]


def data_environment() -> dict[str, str]:
    return {name: f"/data/{name}" for name in ("COURSE_DATA", "KERAS_HOME") if _is_folder(name)}


def _is_folder(name: str) -> bool:
    return bool(os.environ.get(name)) and Path(os.environ[name]).is_dir()


def filter_utilities(source: Path, target: Path, withheld: Mapping[str, set[str]]) -> None:
    """Copy `utils` without the bodies of some functions: each raises an error that says why."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name, functions in withheld.items():
        path = target / name
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in reversed(ast.parse(text).body):
            if isinstance(node, ast.FunctionDef) and node.name in functions:
                first, last = node.body[0].lineno - 1, node.end_lineno
                indent = " " * node.body[0].col_offset
                words = f"utils has {node.name} too, but the grader takes it away: this lab asks you to write it"
                lines[first:last] = [f"{indent}raise NotImplementedError({words!r})"]
        path.write_text("\n".join(lines), encoding="utf-8")


def _send(connection: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)


def _receive(connection: socket.socket) -> Any:
    head = _exactly(connection, 4)
    body = None if head is None else _exactly(connection, struct.unpack(">I", head)[0])
    return None if body is None else json.loads(body)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    whole = b""
    while len(whole) < count:
        part = connection.recv(count - len(whole))
        if not part:
            return None
        whole += part
    return whole
