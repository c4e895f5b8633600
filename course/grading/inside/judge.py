"""The judge: runs the release's own given cells and checks in a clean process, where the gaps' names lead to the
submission.

A gap is judged from its cell to its last check, with the student's answer. After that the solution's answer stands in
its place, here always, and at the submission's side when the gap was not passed: a mistake is not punished twice. When
the submission's side dies, does not answer in time or talks nonsense, the gap at hand fails, and a new side is asked
for, in which the solution answers that gap.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import time
import traceback
from typing import Any

from course.grading.crowding import crowding

FIRST_SECONDS = 30.0  # for a new side to answer its first request, beside a cell's own time


class Broken(BaseException):
    """The release itself fails: no mark can be given."""


class Host:
    """Talks with the process that grades: takes the program, asks for a new side, gives the verdict."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self) -> Any:
        (length,) = struct.unpack(">I", self._exactly(4))
        return json.loads(self._exactly(length))

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        self._connection.sendall(struct.pack(">I", len(data)) + data)

    def new_side(self, why: str) -> socket.socket:
        self.send({"need": "submission", "why": why})
        message, numbers, _, _ = socket.recv_fds(self._connection, 1, 1)
        if not message or not numbers:
            raise Broken("no new process for the submission")
        return socket.socket(fileno=numbers[0])

    def _exactly(self, count: int) -> bytes:
        whole = b""
        while len(whole) < count:
            part = self._connection.recv(count - len(whole))
            if not part:
                raise Broken("the grader has gone")
            whole += part
        return whole


def judge(connection: socket.socket) -> None:
    """Take a program from the host, judge by it, give the verdict."""
    import warnings

    import matplotlib

    matplotlib.use("agg")
    warnings.filterwarnings("ignore")
    host = Host(connection)
    program = host.receive()
    bench = Bench(host, program)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for step in program["steps"]:
                bench.take(step)
    except BaseException as error:
        lines = traceback.format_exception_only(type(error), error)
        bench.verdict["problem"] = "".join(lines).strip()[-2000:]
        bench.verdict["where"] = traceback.format_exc()[-4000:]
    host.send({"verdict": bench.finished()})


class Bench:
    """What a judge knows while it judges."""

    def __init__(self, host: Host, program: dict[str, Any]) -> None:
        from course.grading.inside import peer, wire

        self._peer_module, self._wire_module = peer, wire
        self._host, self._seconds = host, float(program["cell_seconds"])
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._given: dict[str, Any] = {}
        self._open: dict[str, dict[str, Any]] = {}  # gaps whose last check is still to come
        self._history: list[
            tuple[int, str, str | None]
        ] = []  # cells that the submission's side ran: index, source, gap
        self._solutions: dict[str, str] = {}  # of every gap so far
        self._restarts = 0
        self._peer: Any = None
        self._traffic = [0, 0]
        self.verdict: dict[str, Any] = {"checks": {}, "gaps": {}, "problem": None}

    def take(self, step: dict[str, Any]) -> None:
        getattr(self, f"_take_{step['kind']}")(step)

    def finished(self) -> dict[str, Any]:
        self._hang_up()
        return {**self.verdict, "calls": self._traffic[0], "bytes": self._traffic[1], "restarts": self._restarts}

    # --------------------------------------------------------------------------------------------------- steps

    def _take_given(self, step: dict[str, Any]) -> None:
        for gap in self._open.values():
            gap["between"].append(step)
        if step["submission"]:
            self._remote(step["index"], step["submission"], None)
        if not step["judge"]:
            return
        try:
            self._limit()
            self._run(step["judge"], step["index"])
        except Exception as error:
            if not self._open:
                raise Broken(f"the release's cell {step['index'] + 1} fails: {type(error).__name__}: {error}") from None
            self._blame(f"the cell after it fails with your answer: {_said(error)}", dead=False)
        except self._wire_module.HarnessError as error:
            self._trouble(error)
        for name in step["functions"]:
            if name in self._names:
                self._given[name] = self._names[name]

    def _take_gap(self, step: dict[str, Any]) -> None:
        gap = {**step, "between": [], "failed": False, "dead": None, "broken": None, "said": None}
        self._open[step["gap"]] = gap
        self._solutions[step["gap"]] = step["solution"]
        self.verdict["gaps"][step["gap"]] = {"error": None}
        for name in step["defines"]:
            self._names.pop(name, None)
        said = self._remote(step["index"], step["answer"], step["gap"])
        if gap["dead"] is None and said is not None:
            gap["said"] = f"{said[0]}: {said[1]}" if said[1] else said[0]
            self.verdict["gaps"][step["gap"]]["error"] = gap["said"]
        if gap["dead"] is not None:
            return
        for name in step["defines"]:
            if name not in step["values"]:
                self._names[name] = self._peer_module.Proxy(self._peer, name, name)
        for name in step["values"]:
            try:
                self._limit()
                self._names[name] = self._peer.call("(value)", None, (name,), {})
            except Exception:
                continue  # the check says that the name is missing
            except self._wire_module.HarnessError as error:
                self._trouble(error)

    def _take_check(self, step: dict[str, Any]) -> None:
        gap = self._open.get(step["gap"])
        if gap is None:
            raise Broken(f"a check of {step['gap']!r} before its gap")
        gap["between"].append(step)
        status, text = "passed", ""
        if gap["dead"] is not None or gap["broken"] is not None:  # in the notebook, too, no check would be reached
            status, text = "failed", gap["dead"] or gap["broken"]
        else:
            try:
                self._limit()
                self._run(step["source"], step["index"])
            except Exception as error:
                status, text = "failed", _said(error)
                if gap["said"] and not isinstance(error, AssertionError):
                    text = f"{text} (your cell ended with {gap['said']})"
            except self._wire_module.HarnessError as error:
                if type(error).__name__ == "Uncarried":
                    status, text = "hand", f"for a person to look at: your answer holds {error}"
                else:
                    text = self._trouble(error, step["gap"])
                    status = "failed"
        gap["failed"] |= status != "passed"
        self.verdict["checks"][step["id"]] = {"status": status, "text": _plain(text)}

    def _take_end(self, step: dict[str, Any]) -> None:
        gap = self._open.pop(step["gap"])
        self._run(gap["solution"], gap["index"])
        if not gap["failed"]:
            return
        if gap["dead"] is None:
            self._remote(gap["index"], gap["solution"], None)
        for number, (index, _, name) in enumerate(self._history):
            if name == step["gap"]:
                self._history[number] = (index, gap["solution"], None)
        for between in gap["between"]:  # what came in between is made anew for later checks, from the right answer
            source = between.get("judge", between.get("source"))
            if between["needed"] and source:
                try:
                    self._run(source, between["index"])
                except Exception as error:
                    raise Broken(
                        f"the release's cell {between['index'] + 1} fails on its solution: {_said(error)}"
                    ) from None

    # ----------------------------------------------------------------------------------------- the submission's side

    def _limit(self) -> None:
        if self._peer is None:
            self._call_up("the first")
        self._peer.wire.deadline = time.monotonic() + self._seconds * crowding()

    def _run(self, source: str, index: int) -> None:
        exec(compile(source, f"<cell {index + 1}>", "exec"), self._names)

    def _remote(self, index: int, source: str, gap: str | None) -> list[str] | None:
        """Have the submission's side run a cell; the error that ended it, in its own words, or None."""
        try:
            self._limit()
            self._history.append((index, source, gap))
            return self._ask(index, source)
        except self._wire_module.HarnessError as error:
            self._trouble(error, gap)
            return None

    def _ask(self, index: int, source: str) -> list[str] | None:
        told = self._peer.ask({"op": "cell", "index": index, "source": source}).get("v")
        if told is None:
            return None
        if isinstance(told, list) and len(told) == 2 and all(isinstance(part, str) for part in told):
            return [_plain(part)[:1000] for part in told]
        raise self._wire_module.WireError("malformed message: no outcome of a cell")

    def _call_up(self, why: str) -> None:
        self._peer = self._peer_module.Peer(
            self._wire_module.Wire(self._host.new_side(why)),
            self._names,
            trusting=False,
        )
        self._peer.given = self._given

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._traffic[0] += self._peer.calls
            self._traffic[1] += self._peer.wire.sent + self._peer.wire.received
            self._peer.wire.connection.close()
            self._peer = None

    def _trouble(self, error: BaseException, gap: str | None = None) -> str:
        """The submission's side is of no use any more: the gap at hand fails, and a new side takes its place."""
        kind = type(error).__name__
        if kind == "Late":
            text = f"no answer within {self._seconds:g} s: is there a loop without end?"
        elif kind == "Gone":
            text = "the process with your answer ended by itself: does it call exit, or need too much memory?"
        else:
            text = f"your answer sent what no answer can be: {error}"
        self._blame(text, dead=True, only=gap)
        dead = {name for name, state in self._open.items() if state["dead"] is not None}
        if not self._replay(text, dead) and not self._replay(text, set(self._solutions)):
            raise Broken("the submission's side ends again and again, on the solution's answers too")
        for state in self._open.values():
            if state["dead"] is not None:
                self._run(state["solution"], state["index"])
            else:
                for name in state["defines"]:
                    self._names[name] = self._peer_module.Proxy(self._peer, name, name)
        return text

    def _replay(self, why: str, replaced: set[str]) -> bool:
        """A new side, brought to where the old one was, the solution answering the gaps in `replaced`. Whether it got
        there.
        """
        self._hang_up()
        self._restarts += 1
        self._call_up(why)
        for number, (index, source, name) in enumerate(list(self._history)):
            if name in replaced:
                source = self._solutions[name]
                self._history[number] = (index, source, None)
            try:
                self._peer.wire.deadline = time.monotonic() + (self._seconds + FIRST_SECONDS) * crowding()
                self._ask(index, source)
            except self._wire_module.HarnessError:
                return False
        return True

    def _blame(self, text: str, dead: bool, only: str | None = None) -> None:
        names = [only] if only in self._open else list(self._open)[-1:]
        for name in names:
            self._open[name]["failed"] = True
            if dead:
                self._open[name]["dead"] = text
            elif self._open[name]["broken"] is None:
                self._open[name]["broken"] = text


def _said(error: BaseException) -> str:
    words = str(error)
    if isinstance(error, AssertionError):
        return words or "the check does not hold"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _plain(text: str) -> str:
    """At most 4,000 characters that every file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")[:4000]
