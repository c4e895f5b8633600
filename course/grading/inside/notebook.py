"""papermill executes the rebuilt notebook, in the same kind of sandbox as the judged answers: for the feedback page,
never for marks.

It is the same worker as that of `course run`, with its kernel forked from the warm template. Every cell goes on after
an error. What comes out is the outputs that a page can show: text, errors, pictures.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import Any

MOST = 12 << 20  # bytes of outputs in all
SHOWN = ("image/png", "image/jpeg", "text/plain")


def run(connection: socket.socket) -> None:
    """Take a notebook from the host, execute it, give back the outputs of its cells."""
    from course.execution.provisioner import Seed

    (length,) = struct.unpack(">I", _exactly(connection, 4))
    order = json.loads(_exactly(connection, length))
    seed = Seed()  # while this process has one thread
    told = _execute(order, seed)
    data = json.dumps(told).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)
    os._exit(0)


def _execute(order: dict[str, Any], seed: Any) -> dict[str, Any]:
    from course.execution import client, provisioner, worker
    from course.execution.limits import Limits, Watch

    notebook = order["notebook"]
    for cell in notebook["cells"]:
        cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "raises-exception"]
    folder, scratch = Path(os.environ["HOME"]), Path(tempfile.mkdtemp(prefix="kernel-"))
    path = folder / "submission.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    request = worker.Request(
        str(path), order["parameters"], threads=1, cwd=str(folder), output_bytes=order["output_bytes"]
    )
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    os.environ.update(worker.kernel_environment(request))
    watch = Watch(Limits(order["cpu_seconds"], order["wall_seconds"], order["output_bytes"]))
    execution = worker.Execution(request, scratch, watch, lambda message: None)
    try:
        with watch:
            provisioner.use(str(folder), scratch, watch, seed)
            client.execute(execution)
    except Exception as failed:
        execution.status, execution.error = "failed", {"name": type(failed).__name__, "value": str(failed)[:2000]}
    executed = json.loads(execution.executed) if execution.executed is not None else {"cells": []}
    room, cells = MOST, []
    for cell in executed["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            continue
        outputs = []
        for output in cell.get("outputs", []):
            shown = _output(output)
            size = len(json.dumps(shown))
            if shown is not None and size <= room:
                room -= size
                outputs.append(shown)
        cells.append(outputs)
    error = execution.error and {"name": execution.error["name"], "value": execution.error["value"]}
    return {"status": execution.status, "error": error, "cells": cells}


def _output(output: dict[str, Any]) -> dict[str, str] | None:
    """What a page can show of an output."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else "".join(map(str, value or []))

    kind = output.get("output_type")
    if kind == "stream":
        return {"kind": "text", "text": text(output.get("text"))}
    if kind == "error":
        return {"kind": "error", "text": "\n".join(map(str, output.get("traceback", [])))}
    data = output.get("data", {})
    for form in SHOWN:
        if form in data:
            return {"kind": form, "text": text(data[form])}
    return None


def _exactly(connection: socket.socket, count: int) -> bytes:
    whole = b""
    while len(whole) < count:
        part = connection.recv(min(count - len(whole), 1 << 20))
        if not part:
            raise EOFError("the grader has gone")
        whole += part
    return whole
