"""One submission's answers against its release: a judge and a submission's side, each in a sandbox of its own."""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from course.execution.template import MODULES
from course.grading.boxes import Box, Child
from course.grading.crowding import crowding
from course.grading.sandbox import INSIDE, Limits
from course.grading.withholding import copy_without

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
WARM_NOTEBOOK = ("course.execution.client", "course.execution.provisioner", *MODULES)
PACKAGE = Path(__file__).resolve().parents[1]
UTILITIES = PACKAGE.parent / "utils"


class Bench:
    """The templates for one release. Any number of threads may use it at a time; each submission has processes of its
    own.

    Args:
        withheld: functions of `utils` that this lab asks for, as `withholding.withheld` finds them.
        judges: a template that releases share (`judge_template`).
    """

    def __init__(self, withheld: Mapping[str, Iterable[str]], judges: Box, limits: Limits) -> None:
        self.judges, self.limits = judges, limits
        self._folder = tempfile.TemporaryDirectory(prefix="course-grade-")
        os.chmod(self._folder.name, 0o755)  # the box is entered as another user than root, who must be able to read it
        filtered = Path(self._folder.name, "utils")
        copy_without(UTILITIES, filtered, withheld)
        self.submissions = Box(
            [*WARM, "course.grading.inside.player", "course.grading.inside.peer"],
            [(PACKAGE, f"{INSIDE}/course"), (filtered, f"{INSIDE}/utils"), *data_mounts()],
            data_environment(limits.boxed),
            limits.boxed,
        )

    def close(self) -> None:
        self.submissions.close()
        self._folder.cleanup()

    def judge(self, program: list[dict[str, Any]]) -> dict[str, Any]:
        """The verdict on a program of `Release.program`.

        Returns:
            `checks`: by id, a status and its words; `gaps`: by name, the error that ended its cell; `problem`: why no
                mark can be given, or None; `restarts`; `cost`.
        """
        began = time.monotonic()
        end = began + self.limits.wall_seconds * crowding()
        sides: list[Child] = []
        ours, theirs = socket.socketpair()
        judge = self.judges.fork("course.grading.inside.judge:judge", self.limits, theirs)
        verdict: dict[str, Any] | None = None
        try:
            send(ours, {"steps": program, "cell_seconds": self.limits.cell_seconds})
            while verdict is None:
                ours.settimeout(max(1.0, end - time.monotonic()))
                message = receive(ours)
                if message is None:
                    break
                if "need" in message:
                    if sides:
                        sides[-1].close()
                    here, there = socket.socketpair()
                    sides.append(self.submissions.fork("course.grading.inside.player:play", self.limits, here))
                    socket.send_fds(ours, [b"+"], [there.fileno()])
                    there.close()
                else:
                    verdict = message["verdict"]
        except TimeoutError:
            verdict = _without_verdict(f"the judge was not ready after {self.limits.wall_seconds:g} s")
        except (OSError, ValueError, KeyError) as error:
            verdict = _without_verdict(f"the judge does not answer: {type(error).__name__}: {error}")
        finally:
            ours.close()
            grace = 2.0 if verdict is not None and verdict["problem"] is None else 0.0
            costs = [side.close(grace) for side in sides]
            ended = judge.close(grace)
        if verdict is None:
            verdict = _without_verdict(
                f"the judge ended before its verdict ({ended.get('ended')}, {ended.get('code')})"
            )
        cpu = sum(cost.get("cpu_seconds", 0) for cost in (ended, *costs))
        peak = max(cost.get("peak_bytes", 0) for cost in (ended, *costs))
        ways = [cost.get("ended") for cost in costs]
        verdict["cost"] = {
            "seconds": round(time.monotonic() - began, 2),
            "cpu_seconds": round(cpu, 2),
            "peak_bytes": peak,
        }
        verdict["cost"]["ended"] = [way for way in ways if way not in ("exit", "stopped")]
        return verdict

    def execute(self, notebook: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of a rebuilt notebook's cells, for its page: `status`, `error`, `cells`."""
        ours, theirs = socket.socketpair()
        # With the whole of `utils`, since the checks that the student has compare with it; what comes out is shown, not
        # judged.
        child = self.judges.fork("course.grading.inside.notebook:run", self.limits, theirs)
        told: Any = None
        try:
            ours.settimeout(self.limits.wall_seconds * crowding())
            send(
                ours,
                {
                    "notebook": notebook,
                    "parameters": dict(parameters),
                    "cpu_seconds": self.limits.notebook_seconds,
                    "wall_seconds": self.limits.wall_seconds,
                    "output_bytes": self.limits.output_bytes,
                },
            )
            told = receive(ours)
        except (OSError, ValueError, RecursionError):
            told = None
        finally:
            ours.close()
            ended = child.close(3.0 if told else 0.0)
        if not isinstance(told, dict):
            why = {"memory": "it took more memory than it may", "time": "it took more time than it may"}
            value = why.get(str(ended.get("ended")), "its processes ended before it did")
            told = {"status": "died", "error": {"name": "Stopped", "value": value}, "cells": []}
        return {**told, "cpu_seconds": ended.get("cpu_seconds", 0)}


def _without_verdict(problem: str) -> dict[str, Any]:
    return {"checks": {}, "gaps": {}, "problem": problem, "restarts": 0}


def judge_template(boxed: bool = True) -> Box:
    """The judges' template, which serves every release."""
    mounts = [(PACKAGE, f"{INSIDE}/course"), (UTILITIES, f"{INSIDE}/utils"), *data_mounts()]
    return Box(
        [*WARM, *WARM_NOTEBOOK, "course.grading.inside.judge", "course.grading.inside.peer"],
        mounts,
        data_environment(boxed),
        boxed,
    )


def data_mounts() -> list[tuple[Path, str]]:
    """The folders of data that this environment names."""
    return [
        (Path(os.environ[name]).resolve(), f"/data/{name}")
        for name in ("COURSE_DATA", "KERAS_HOME")
        if _is_folder(name)
    ]


def data_environment(boxed: bool) -> dict[str, str]:
    return {
        name: f"/data/{name}" if boxed else os.environ[name]
        for name in ("COURSE_DATA", "KERAS_HOME")
        if _is_folder(name)
    }


def _is_folder(name: str) -> bool:
    return bool(os.environ.get(name)) and Path(os.environ[name]).is_dir()


MOST_ANSWER = 64 << 20  # bytes of one message from a sandbox


def send(connection: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)


def receive(connection: socket.socket) -> Any:
    """One message; None when the other side has ended, ValueError when it is none."""
    head = _exactly(connection, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    if length > MOST_ANSWER:
        raise ValueError("a message that is too long")
    body = _exactly(connection, length)
    return None if body is None else json.loads(body)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    whole = bytearray()
    while len(whole) < count:
        part = connection.recv(min(count - len(whole), 1 << 20))
        if not part:
            return None
        whole += part
    return bytes(whole)
