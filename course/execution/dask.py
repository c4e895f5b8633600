"""`--executor dask`: the same execution on the workers of a Dask cluster. Notebook and data travel as bytes, in and
out.

The workers have the course installed; they share no disk with this machine. A worker that is lost costs the time of
what it was
doing: the scheduler gives that to another.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import course
from course.errors import CourseError
from course.execution.cache import DATA_FOLDERS
from course.execution.worker import ExecutorLost, Flag, Progress, Request, spawn
from course.files import write_atomically
from course.outcome import Result

WORKER_SECONDS = 60.0  # that a cluster may be without a worker
SCHEDULER_SECONDS = 20.0  # that the scheduler may be out of reach
INSTALLED = Path(course.__file__).parents[1]  # `course` and `utils` lie side by side, here and on a worker
Data = tuple[str, dict[str, dict[str, bytes]]]  # a digest, and for each variable the files of the folder that it names


def connect(scheduler: str | None) -> DaskExecutor:
    """An executor over the cluster at this address. CourseError when there is none, or it has no worker."""
    if not scheduler:
        raise CourseError("--executor dask needs --scheduler ADDRESS, such as tcp://host:8786")
    try:
        from distributed import Client
    except ImportError:
        raise CourseError(
            "--executor dask needs the extra `dask`: pip install 'convnets-for-vision[course,dask]'"
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is told in our own lines
    try:
        client = Client(scheduler, set_as_default=False, timeout=10)
    except (OSError, ValueError) as error:
        raise CourseError(f"no Dask scheduler at {scheduler}: {error}") from None
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        client.close()
        raise CourseError(f"no Dask worker at {scheduler} within {WORKER_SECONDS:.0f} s: start one") from None
    return DaskExecutor(client, scheduler)


class DaskExecutor:
    """Executes a request on some worker of a `distributed.Client`."""

    def __init__(self, client: Any, address: str) -> None:
        self.client = client
        self.address = address
        self.data: Any = None

    def __call__(
        self, request: Request, on_progress: Progress | None = None, cancel: Flag | None = None
    ) -> tuple[Result, bytes | None]:
        try:
            notebook = Path(request.notebook).read_bytes()
        except OSError as error:
            raise CourseError(f"{request.notebook}: {error.strerror or error}") from None
        if self.data is None:  # a task rather than scattered data, which would be lost with the worker that holds them
            self.data = self.client.submit(_same, _data(request.environment), pure=False)
        flag = f"course-{uuid.uuid4().hex}"
        future = self.client.submit(remotely, asdict(request), notebook, self.data, flag, pure=False)
        cancelled = self._wait(future, cancel)
        if cancelled:
            from distributed import Event

            with contextlib.suppress(Exception):  # the scheduler may be what ended
                Event(flag, client=self.client).set()
            future.cancel()
            return Result(request.notebook, "cancelled"), None
        try:
            answer, executed = future.result()
        except CourseError:
            raise
        except Exception as error:
            what = {"cell": None, "cell_id": None, "name": "WorkerFailed", "traceback": "", "source": ""}
            return Result(request.notebook, "died", {**what, "value": f"{type(error).__name__}: {error}"}), None
        result = Result.from_json({**answer, "notebook": request.notebook})
        result.files = {str(INSTALLED / path): digest for path, digest in result.files.items()}
        return result, executed

    def _wait(self, future: Any, cancel: Flag | None) -> bool:
        """Until the future is done; whether it was cancelled instead. ExecutorLost when the cluster is gone."""
        heard = served = time.monotonic()
        while not future.done() or future.status in ("lost", "cancelled"):
            time.sleep(0.1)
            now = time.monotonic()
            if cancel is not None and cancel.is_set():
                return True
            if self.client.status == "running" and future.status not in ("lost", "cancelled"):
                heard = now
            if self.client.scheduler_info().get("workers"):
                served = now
            if now - heard > SCHEDULER_SECONDS or self.client.status == "closed":
                raise ExecutorLost(f"the Dask scheduler at {self.address} is gone; what has passed is kept")
            if now - served > WORKER_SECONDS:
                raise ExecutorLost(
                    f"no Dask worker at {self.address} for {WORKER_SECONDS:.0f} s; what has passed is kept"
                )
        return False


def _same(data: Data) -> Data:
    return data


class _Cancelled:
    """On a worker: whether the program has called it off; asked of the scheduler once a second."""

    def __init__(self, flag: str) -> None:
        from distributed import Event

        self._event = Event(flag)
        self._asked, self._set = time.monotonic(), False

    def is_set(self) -> bool:
        now = time.monotonic()
        if not self._set and now - self._asked > 1:
            self._set, self._asked = self._event.is_set(), now
        return self._set


def remotely(request: dict[str, Any], notebook: bytes, data: Data, flag: str) -> tuple[dict[str, Any], bytes | None]:
    """On the worker: execute the notebook in a folder that is gone afterwards; the result and the executed notebook."""
    from distributed import get_worker

    given = Request(**request)
    environment = {name: value for name, value in given.environment.items() if name not in DATA_FOLDERS}
    environment.update(_placed(data, Path(get_worker().local_directory)))
    with tempfile.TemporaryDirectory(prefix="course-dask-") as folder:
        path = Path(folder, Path(given.notebook).name)
        path.write_bytes(notebook)
        here = replace(given, notebook=str(path), cwd=folder, environment=environment)
        result, executed = spawn(here, cancel=_Cancelled(flag))
    result.files = {
        Path(path).relative_to(INSTALLED).as_posix(): digest
        for path, digest in result.files.items()
        if Path(path).is_relative_to(INSTALLED)
    }
    return asdict(result), executed


def _data(environment: dict[str, str]) -> Data:
    """The files of the folders that these variables name."""
    files: dict[str, dict[str, bytes]] = {}
    digest = hashlib.sha256()
    for variable in DATA_FOLDERS:
        folder = Path(environment.get(variable, ""))
        if environment.get(variable) and folder.is_dir():
            found = sorted(path for path in folder.rglob("*") if path.is_file())
            files[variable] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
            for name, content in files[variable].items():
                digest.update(f"{variable}/{name}/{len(content)}/".encode() + content)
    return digest.hexdigest()[:16], files


def _placed(data: Data, folder: Path) -> dict[str, str]:
    """The variables with the folders that hold their files here, written when the first notebook asks for them."""
    digest, files = data
    place = folder / f"course-{digest}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="course-", ignore_cleanup_errors=True) as whole:
            for variable, content in files.items():
                Path(whole, variable).mkdir()
                for name, bytes_ in content.items():
                    write_atomically(Path(whole, variable, name), bytes_)
            with contextlib.suppress(OSError):  # another notebook was first
                os.rename(whole, place)
    return {variable: str(place / variable) for variable in files}
