"""The submission's side: runs the given cells and the answers it is told to, and then its functions, one call at a
time.

Everything here is in the hands of the student's code; nothing here is believed.
"""

from __future__ import annotations

import builtins
import socket
import sys
import types
from typing import Any

VALUE = "(value)"  # the function that gives the value of a name


def play(connection: socket.socket) -> None:
    """Serve a judge until it hangs up."""
    import matplotlib

    from course.grading.inside.peer import Peer
    from course.grading.inside.wire import Gone, HarnessError, Wire

    matplotlib.use("agg")
    module = types.ModuleType("__main__")
    names = module.__dict__
    names["__builtins__"] = builtins
    sys.modules["__main__"] = module
    names["get_ipython"] = lambda: None
    names["display"] = lambda *things, **options: None
    peer = Peer(Wire(connection), names, trusting=True)
    names[VALUE] = lambda name: names[name]
    try:
        while True:
            message, arrays = peer.wire.receive()
            if message["op"] == "call":
                peer.serve(message, arrays)
            else:
                peer.wire.send({"op": "return", "v": _run(message, names)}, [])
    except (Gone, HarnessError):
        return


def _run(message: dict[str, Any], names: dict[str, Any]) -> list[str] | None:
    """Run a cell; the class and the words of the exception that ended it, or None."""
    try:
        exec(compile(message["source"], f"<cell {message['index'] + 1}>", "exec"), names)
    except BaseException as error:
        try:
            words = str(error)[:1000]
        except BaseException:
            words = ""
        return [type(error).__name__, words]
    return None
