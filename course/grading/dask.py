"""`course grade --executor dask`: each submission on some worker of a cluster. Jobs and outcomes travel as data; no
disk is shared.

A worker that is lost costs the time of what it was doing: the scheduler gives that to another. An outcome depends on
its job alone and is kept here, once, by the job's content, so nothing is graded twice.
"""

from __future__ import annotations

import atexit
import threading
import time
from dataclasses import asdict
from typing import Any

from course.errors import CourseError
from course.execution import dask as clusters
from course.grading.batch import Job, Local
from course.grading.sandbox import Limits


class DaskGrader:
    """Grades jobs on the workers of a `distributed.Client`."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address

    def __call__(self, job: Job) -> dict[str, Any]:
        future = self._client.submit(remotely, asdict(job), pure=False, retries=3)
        heard = time.monotonic()
        while not future.done():
            time.sleep(0.1)
            now = time.monotonic()
            if self._client.status == "running" and self._client.scheduler_info().get("workers"):
                heard = now
            if now - heard > clusters.WORKER_SECONDS:
                raise CourseError(f"no Dask worker at {self._address} any more; what is graded is kept", 1)
        outcome = future.result()
        if "refused" in outcome:
            raise CourseError(f"a Dask worker cannot grade: {outcome['refused']}", 1)
        return dict(outcome)

    def close(self) -> None:
        self._client.close()


def connect(scheduler: str | None) -> DaskGrader:
    """A grader over the cluster at this address. CourseError when there is none, or it has no worker."""
    connected = clusters.connect(scheduler)
    return DaskGrader(connected.client, connected.address)


_here: list[Local] = []
_lock = threading.Lock()


def remotely(job: dict[str, Any]) -> dict[str, Any]:
    """On a worker: grade one job, with templates that stay warm for the next."""
    with _lock:
        if not _here:
            _here.append(Local())
            atexit.register(_here[0].close)
    try:
        return _here[0](Job(**{**job, "limits": Limits(**job["limits"])}))
    except CourseError as error:
        return {"refused": str(error)}
