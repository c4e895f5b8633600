"""Messages between the judge and a submission: a length, JSON, and the raw bytes of arrays. Nothing is ever unpickled.

A frame is two big-endian numbers (4 bytes: length of the JSON; 8 bytes: length of what follows), the JSON `{"m":
message, "a": [[dtype, shape], ...]}`, and the arrays' bytes one after the other. Whatever does not fit this to the
letter is a `WireError`, and the connection is closed with the first: a peer that lost its place is never listened to
again.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import time
from typing import Any

import numpy as np

MOST_JSON = 16 << 20
MOST_BYTES = 512 << 20
_LENGTHS = struct.Struct(">IQ")
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16)|[SU]\d{1,5})")


class HarnessError(BaseException):
    """Not the submission's answer but the way to it has failed. No `except Exception` of a check may take it for an
    answer.
    """


class WireError(HarnessError):
    """What came over the wire is none of what may come."""


class Gone(WireError):
    """The other side has ended."""


class Late(HarnessError):
    """The other side did not answer in time."""


class Wire:
    """One side of a connection.

    Args:
        connection: a connected stream socket.
        deadline: on `time.monotonic`, when waiting for the other side ends; None waits for ever. It may be set anew at
            any time.
    """

    def __init__(self, connection: socket.socket, deadline: float | None = None) -> None:
        self.connection, self.deadline = connection, deadline
        self.sent = self.received = 0  # bytes

    def send(self, message: Any, arrays: list[np.ndarray]) -> None:
        described = [[array.dtype.str, list(array.shape)] for array in arrays]
        head = json.dumps({"m": message, "a": described}).encode()
        size = sum(array.nbytes for array in arrays)
        if len(head) > MOST_JSON or size > MOST_BYTES:
            raise WireError(f"a message of {(len(head) + size) >> 20} MB is too large")
        self.sent += len(head) + size
        try:
            self._wait()
            self.connection.sendall(_LENGTHS.pack(len(head), size) + head)
            for array in arrays:
                if array.nbytes:
                    self.connection.sendall(np.ascontiguousarray(array).reshape(-1).view("u1").data)
        except TimeoutError:
            raise Late("no answer in time") from None
        except OSError:
            raise Gone("the other side has ended") from None

    def receive(self) -> tuple[Any, list[np.ndarray]]:
        length, size = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if length > MOST_JSON or size > MOST_BYTES:
            raise WireError(f"a message of {(length + size) >> 20} MB is too large")
        head = bytes(self._read(length))
        self.received += length + size
        try:
            told = json.loads(head)
            message, described = told["m"], told["a"]
            plan = [(dtype, tuple(shape)) for dtype, shape in described]
        except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
            raise WireError(f"malformed message: {type(error).__name__}") from None
        needed = 0
        for dtype, shape in plan:
            if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype) or len(shape) > 16:
                raise WireError("malformed message: an array of an unknown kind")
            if not all(type(side) is int and 0 <= side < 1 << 40 for side in shape):
                raise WireError("malformed message: an array of an impossible shape")
            needed += np.dtype(dtype).itemsize * math.prod(shape)
        if needed != size:
            raise WireError("malformed message: the arrays are not as long as they are said to be")
        return message, [self._array(dtype, shape) for dtype, shape in plan]

    def _array(self, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(dtype)
        raw = self._read(kind.itemsize * math.prod(shape))
        array = np.frombuffer(raw, kind).reshape(shape) if raw else np.zeros(shape, kind)
        if kind.kind == "b" and array.size and array.view("u1").max() > 1:
            raise WireError("malformed message: booleans that are neither true nor false")
        if kind.kind == "U" and array.size and kind.itemsize:
            points = np.frombuffer(raw, np.dtype("u4").newbyteorder(kind.byteorder))
            if points.max() > 0x10FFFF:
                raise WireError("malformed message: text that is none")
        return array

    def _read(self, count: int) -> bytearray:
        whole = bytearray(count)
        view, got = memoryview(whole), 0
        while got < count:
            try:
                self._wait()
                found = self.connection.recv_into(view[got:], min(count - got, 1 << 20))
            except TimeoutError:
                raise Late("no answer in time") from None
            except OSError:
                raise Gone("the other side has ended") from None
            if not found:
                raise Gone("the other side has ended")
            got += found
        return whole

    def _wait(self) -> None:
        if self.deadline is None:
            self.connection.settimeout(None)
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Late("no answer in time")
        self.connection.settimeout(left)
