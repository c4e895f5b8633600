"""Processes that start in a tenth of a second: a template imports what takes long, once, and forks.

`Template` belongs to the program; the process that forks runs `main`. It imports by name, runs
no operation, and answers each order with a child of its own session, which has the three files of the order as its
standard files, gets some variables on top of the template's environment, and calls one function. Everything that is
read at import is in the template's environment already (threads, backend, KERAS_HOME, the seed of hashes), so there is
one template for each environment. `utils` is not imported: its own code takes a tenth of a second, and a notebook that
imports it anew runs what stands in the files now, and loads what it asks for and no more, as in a cold start.

Only Linux forks safely with these libraries; elsewhere, and when the template is not fit to be forked, `Unavailable`
says so and the caller starts a process the usual way.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

MODULES = (
    *("papermill.engines", "papermill.clientwrap", "papermill.parameterize", "nbformat", "psutil"),
    # Not matplotlib_inline.backend_inline: imported before there is a kernel, it never shows figures that a cell leaves
    # open.
    *("ipykernel.kernelapp", "ipykernel.zmqshell", "ipywidgets"),
    *("numpy", "pandas", "scipy.signal", "matplotlib.pyplot", "PIL.Image", "sklearn", "skimage", "tensorflow_datasets"),
    *("tensorflow", "keras"),
)
# Not with `-P`, which a kernel would inherit: IPython then leaves the notebook's folder out of the path.
LAUNCH = "import sys; del sys.path[0]; from course.execution.template import main; main()"
START_SECONDS = 120.0  # the first import from a cold disk takes long
MESSAGE_BYTES = 1 << 18


class Unavailable(Exception):
    """There is no process to fork, and why."""


class Template:
    """A process that forks others. It ends when this object is closed, or with the process that made it.

    Args:
        environment: the whole environment of the process, and so of its children.
        modules: what to import; those that are not installed are passed over.
        prefix: a command that runs the process for us, in a box say; the process's own command follows it.

    Raises:
        Unavailable: it cannot be forked here.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str], prefix: Sequence[str] = ()) -> None:
        if sys.platform != "linux":
            raise Unavailable(f"no safe fork on {sys.platform}")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-c", LAUNCH, str(theirs.fileno()), *modules],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket.settimeout(START_SECONDS)
        try:
            refused = self._answer().get("refused")
        except Unavailable:
            self.close()
            raise
        if refused:
            self.close()
            raise Unavailable(refused)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, target: str, files: Sequence[int], environment: Mapping[str, str]) -> int:
        """Start a child; its process id.

        Args:
            target: what it calls, as `module:function`.
            files: descriptors that become its standard input, output and error stream.
            environment: variables on top of the template's.

        Raises:
            Unavailable: the template has ended.
        """
        order = {"target": target, "environment": dict(environment)}
        with self._lock:
            try:
                socket.send_fds(self._socket, [json.dumps(order).encode()], list(files))
            except OSError as error:
                raise Unavailable(f"the template has ended: {error}") from None
            return int(self._answer()["pid"])

    def _answer(self) -> dict[str, Any]:
        try:
            answer = self._socket.recv(MESSAGE_BYTES)
        except OSError as error:
            raise Unavailable(f"the template does not answer: {error}") from None
        if not answer:
            raise Unavailable(f"the template ended with {self._process.wait()}")
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the template. Its children live on."""
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # still at its imports
            self._process.kill()
            self._process.wait()


_templates: dict[tuple[tuple[str, str], ...], Template | Unavailable] = {}
_lock = threading.Lock()


def template(environment: Mapping[str, str]) -> Template:
    """The template with this environment: made when first asked for, kept until the program ends, made anew when it has
    died.

    Raises:
        Unavailable: it could not be made, now or when first asked for.
    """
    key = tuple(sorted(environment.items()))
    with _lock:
        known = _templates.get(key)
        if isinstance(known, Template) and known._process.poll() is not None:
            known.close()
            known = None
        if known is None:
            try:
                known = Template(environment, MODULES)
            except Unavailable as error:
                known = error
            _templates[key] = known
    if isinstance(known, Unavailable):
        raise known
    return known


@atexit.register
def close_all() -> None:
    with _lock:
        while _templates:
            made = _templates.popitem()[1]
            if isinstance(made, Template):
                made.close()


# ---------------------------------------------------------------------------------------------- in the template


def main() -> None:
    """Import, say that all is ready, and fork for each order until nobody is left who could send one."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    reason = unfit()
    control.send(json.dumps({"refused": reason}).encode())
    if reason:
        return
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # the system buries the children; those who want them wait for their words
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page that it looks at
    while True:
        order, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
        if not order:
            return
        child = os.fork()
        if child == 0:
            control.close()
            _become(json.loads(order), files)
        for file in files:
            os.close(file)
        with contextlib.suppress(OSError):
            control.send(json.dumps({"pid": child}).encode())


def unfit() -> str:
    """Why a child of this process would not work: a thread of Python's, or a library that has begun to compute ("" when
    fit).

    TensorFlow's pools of threads are made by the first operation and are not in a child, which waits for them without
    end. The same goes for JAX; PyTorch makes its pools anew.
    """
    if threading.active_count() > 1:
        return f"threads run in it: {', '.join(thread.name for thread in threading.enumerate())}"
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    if context is not None and context._initialized:
        return "TensorFlow has run an operation in it"
    if getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None):
        return "JAX has opened a device in it"
    return ""


def _become(order: dict[str, Any], files: Sequence[int]) -> None:
    """In the child: leave what was the template's, and call the function. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.update(order["environment"])
        reseed()
        module, _, function = order["target"].partition(":")
        getattr(importlib.import_module(module), function)()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def reseed() -> None:
    """Draw a seed for NumPy's global generator, which would be the same in all children. Python's own does it by
    itself.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
