"""papermill executes the rebuilt notebook, in the same kind of sandbox as the judged answers: for the feedback page, never for marks.

The kernel is forked from the warm template before anything else happens here, and waits; papermill's client then finds it running.
Every cell goes on after an error. What comes out is the outputs that a page can show: text, errors, pictures.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from pathlib import Path
from typing import Any

from course.grading.inside.isolation import die_with_parent

SCRATCH = Path("/scratch")
MOST = 12 << 20  # bytes of outputs in all
SHOWN = ("image/png", "image/jpeg", "text/plain")


def run(connection: socket.socket) -> None:
    """Take a notebook from the host, execute it, give back the outputs of its cells."""
    (length,) = struct.unpack(">I", _exactly(connection, 4))
    request = json.loads(_exactly(connection, length))
    starting, waiting = os.pipe()
    kernel = os.fork()
    if kernel == 0:
        connection.close()
        os.close(waiting)
        _become_kernel(starting)
    os.close(starting)
    told = _execute(request, kernel, waiting)
    data = json.dumps(told).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)


def _become_kernel(starting: int) -> None:
    """Wait for the arguments of a kernel, and be one. Does not return."""
    try:
        die_with_parent()
        with os.fdopen(starting) as pipe:
            arguments = json.loads(pipe.read() or "null")
        if arguments is not None:
            from ipykernel.kernelapp import IPKernelApp

            application = IPKernelApp.instance()
            application.initialize(arguments)
            application.start()
    finally:
        os._exit(0)


def _execute(request: dict[str, Any], kernel: int, waiting: int) -> dict[str, Any]:
    import nbformat
    from jupyter_client.provisioning import factory
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    from course.execution import client

    class Forked(LocalProvisioner):
        """The kernel is there already; it only has to be told its arguments."""

        async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
            with os.fdopen(waiting, "w") as pipe:
                pipe.write(json.dumps(cmd[cmd.index("-f") :]))
            self.process, self.pid, self.pgid = _Process(kernel), kernel, None
            return self.connection_info

    factory.KernelProvisionerFactory.create_provisioner_instance = (  # type: ignore[method-assign]
        lambda self, kernel_id, kernel_spec, parent: Forked(kernel_id=kernel_id, kernel_spec=kernel_spec, parent=parent)
    )
    nb = nbformat.from_dict(request["notebook"])
    for cell in nb.cells:
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]
    limits = client.Run(
        environment=dict(os.environ),
        folder=str(SCRATCH),
        scratch=SCRATCH,
        cell_seconds=request["cell_seconds"],
        wall_seconds=request["wall_seconds"],
        output_bytes=request["output_bytes"],
    )
    try:
        client.run_cells(nb, limits)
        status, error = limits.status, limits.error
    except Exception as failed:
        status, error = "failed", {"cell": None, "name": type(failed).__name__, "value": str(failed)[:2000]}
    room, cells = MOST, []
    for cell in nb.cells:
        outputs = []
        for output in cell.get("outputs", []):
            told = _output(output)
            size = len(json.dumps(told))
            if told is not None and size <= room:
                room -= size
                outputs.append(told)
        cells.append(outputs)
    return {"status": status, "error": error, "cells": cells}


def _output(output: Any) -> Any:
    """What a page can show of an output."""
    kind = output.get("output_type")
    if kind == "stream":
        return {"kind": "text", "text": output.get("text", "")}
    if kind == "error":
        return {"kind": "error", "text": "\n".join(output.get("traceback", []))}
    data = output.get("data", {})
    for form in SHOWN:
        if form in data:
            return {"kind": form, "text": data[form]}
    return None


class _Process:
    """A forked process with the few methods of `subprocess.Popen` that a provisioner calls."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None  # type: ignore[var-annotated]
        self.stdin = self.stdout = self.stderr = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                found, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _exactly(connection: socket.socket, count: int) -> bytes:
    whole = b""
    while len(whole) < count:
        part = connection.recv(min(count - len(whole), 1 << 20))
        if not part:
            raise EOFError("the grader has gone")
        whole += part
    return whole
