"""`--executor dask`: the same execution on the workers of a Dask cluster. Notebook and data travel as bytes, in and
out.

The workers have the course installed; they share no disk with this machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from course.errors import CourseError
from course.execution.cache import DATA_FOLDERS
from course.execution.worker import Flag, Progress, Request, spawn
from course.files import write_atomically
from course.outcome import Result

Files = dict[str, dict[str, bytes]]  # for each variable of the environment, the files of the folder it names


def connect(scheduler: str | None) -> Over:
    """An executor over the cluster at this address."""
    if not scheduler:
        raise CourseError("--executor dask needs --scheduler ADDRESS, such as tcp://host:8786")
    try:
        from distributed import Client
    except ImportError:
        raise CourseError(
            "--executor dask needs the extra `dask`: pip install 'convnets-for-vision[course,dask]'"
        ) from None
    try:
        return Over(Client(scheduler, set_as_default=False, timeout=10))
    except (OSError, ValueError) as error:
        raise CourseError(f"no Dask scheduler at {scheduler}: {error}") from None


class Over:
    """Executes a request on some worker of a `distributed.Client`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.files: Any = None

    def __call__(self, request: Request, on_progress: Progress | None = None, cancel: Flag | None = None) -> Result:
        if self.files is None:
            self.files = self.client.scatter(_files(request.environment))
        notebook = Path(request.notebook).read_bytes()
        future = self.client.submit(remotely, asdict(request), notebook, self.files, pure=False)
        while not future.done():
            if cancel is not None and cancel.is_set():
                future.cancel()
                return Result(request.notebook, "cancelled")
            time.sleep(0.1)
        try:
            answer, executed = future.result()
        except Exception as error:
            what = {"cell": None, "cell_id": None, "name": "WorkerFailed", "traceback": "", "source": ""}
            return Result(request.notebook, "died", {**what, "value": f"{type(error).__name__}: {error}"})
        if executed:
            write_atomically(request.output, executed)
        return Result.from_json({**answer, "notebook": request.notebook})


def remotely(request: dict[str, Any], notebook: bytes, files: Files) -> tuple[dict[str, Any], bytes]:
    """On the worker: execute the notebook in a folder that is gone afterwards; the result and the executed notebook."""
    with tempfile.TemporaryDirectory(prefix="course-dask-") as folder:
        given = Request(**request)
        path, output = Path(folder, Path(given.notebook).name), Path(folder, "executed", Path(given.output).name)
        path.write_bytes(notebook)
        environment = dict(given.environment)
        for variable, content in files.items():
            environment[variable] = os.path.join(folder, variable.lower())
            for name, data in content.items():
                write_atomically(Path(environment[variable], name), data)
        here = replace(given, notebook=str(path), output=str(output), cwd=folder, environment=environment)
        result = spawn(here)
        return asdict(result), output.read_bytes() if output.is_file() else b""


def _files(environment: dict[str, str]) -> Files:
    files: Files = {}
    for variable in DATA_FOLDERS:
        folder = Path(environment.get(variable, ""))
        if environment.get(variable) and folder.is_dir():
            found = sorted(path for path in folder.rglob("*") if path.is_file())
            files[variable] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return files
