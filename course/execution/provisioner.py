"""How a kernel of ours is started, whoever asks for it: papermill's client and nbval both use jupyter_client's manager.

jupyter_client leaves the start to a "kernel provisioner", which can be another than its own. This one has the kernel
work in the notebook's folder, talk through sockets in a folder of ours, write its last words to a log, and end with
this process. Where this process was forked from a template, the kernel is its `Seed` instead of a new Python.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NoReturn, cast

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from course.execution import processes
from course.execution.inkernel import STARTUP
from course.execution.limits import Watch

NAME = "course"
NOTES = "read.jsonl"  # in the run's own folder: what the kernel has read
SOCKET_PATH = 80  # characters; the system takes paths of sockets up to 107, and the kernel adds to ours


class Seed:
    """A child that waits to become the kernel, forked while this process has one thread and nothing open.

    It offers what jupyter_client uses of a `subprocess.Popen`.
    """

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _germinate(theirs)
        theirs.close()

    def become(self, log: int, **order: Any) -> None:
        """Be the kernel with these `arguments`, `environment`, `folder` and `file_bytes`; its words go to the log."""
        socket.send_fds(self._socket, [json.dumps(order).encode()], [log])
        self._socket.close()

    def dismiss(self) -> None:
        """No kernel of Python's is wanted."""
        self._socket.close()

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        with self._lock:
            if self.returncode is None:
                with contextlib.suppress(ChildProcessError):
                    pid, status = os.waitpid(self.pid, options)
                    if pid:
                        self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _germinate(orders: socket.socket) -> NoReturn:
    """In the child: wait for the order, then run a kernel as `python -m ipykernel_launcher` does."""
    code = 1
    try:
        processes.die_with_parent(signal.SIGKILL)
        os.setsid()
        empty = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1):  # this process's own words go to whoever started it, which a kernel must not hold open
            os.dup2(empty, number)
        data, logs, _, _ = socket.recv_fds(orders, 1 << 20, 1)
        orders.close()
        if not data:
            os._exit(0)
        order = json.loads(data)
        for number in (1, 2):
            os.dup2(logs[0], number)
        os.close(logs[0])
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        processes.confines(signal.SIGKILL, order["file_bytes"])()
        import ipykernel_launcher
        from ipykernel.kernelapp import launch_new_instance

        sys.argv = [str(ipykernel_launcher.__file__), *order["arguments"]]
        launch_new_instance()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Provisioner(LocalProvisioner):
    """Starts the kernel of the one notebook that this process runs; `use` says how."""

    folder = ""
    scratch = Path()
    watch: Watch
    seed: Seed | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager: Any = self.parent
        manager.connection_file = str(self.scratch / "kernel.json")
        if os.name == "posix" and len(str(self.scratch)) < SOCKET_PATH:  # no two kernels ever meet at a port
            manager.transport, manager.ip = "ipc", str(self.scratch / "kernel")
        return await super().pre_launch(**{**kwargs, "cwd": self.folder})

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        most = self.watch.limits.file_bytes
        with open(self.scratch / "kernel.log", "ab") as log:
            if self.seed is not None and _is_ours(cmd):
                self.seed.become(
                    log.fileno(),
                    # ipykernel reads its parent's id from the environment when it is imported, which was in the
                    # template.
                    arguments=[
                        *cmd[cmd.index("ipykernel_launcher") + 1 :],
                        f"--IPKernelApp.parent_handle={os.getpid()}",
                    ],
                    environment=kwargs["env"],
                    folder=self.folder,
                    file_bytes=most,
                )
                self.process = cast(Any, self.seed)
                self.pid, self.pgid, self.cwd = self.seed.pid, self.seed.pid, self.folder
                information = self.connection_info
            else:
                if self.seed is not None:
                    self.seed.dismiss()
                if os.name == "posix":
                    kwargs["preexec_fn"] = processes.confines(signal.SIGKILL, most)
                information = await super().launch_kernel(cmd, **{**kwargs, "stdout": log, "stderr": log})
        self.watch.kernel_started(self.process)
        return information


def _is_ours(command: list[str]) -> bool:
    """Whether this starts IPython's kernel in the Python that runs here."""
    found = shutil.which(command[0])
    return "ipykernel_launcher" in command and found is not None and os.path.samefile(found, sys.executable)


def use(folder: str, scratch: Path, watch: Watch, seed: Seed | None) -> None:
    """Have every kernel that this process asks for started this way.

    What runs in each kernel first is IPython's start-up file of the profile in IPYTHONDIR, which belongs to this run
    alone.
    """
    Provisioner.folder, Provisioner.scratch, Provisioner.watch, Provisioner.seed = folder, scratch, watch, seed
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[NAME] = EntryPoint(NAME, f"{__name__}:Provisioner", factory.GROUP_NAME)
    factory.default_provisioner_name = NAME
    write_startup(Path(os.environ["IPYTHONDIR"]), watch.limits.output_bytes, scratch / NOTES)


def write_startup(folder: Path, output_bytes: int, notes: Path) -> None:
    """Have every kernel whose IPYTHONDIR is this folder begin with `course.execution.inkernel.startup`."""
    startup = folder / "profile_default" / "startup" / "00-course.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    call = f"__import__('runpy').run_path({STARTUP!r})['start']({output_bytes}, {str(notes)!r})\n"
    startup.write_text(call, encoding="utf-8")
