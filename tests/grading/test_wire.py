"""Whatever comes over the wire and does not fit to the letter ends the connection; no array is ever unpickled."""

import json
import pickle
import socket
import struct
import time

import numpy as np
import pytest

from course.grading.inside.wire import Gone, HarnessError, Late, Wire, WireError


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    yield Wire(a, time.monotonic() + 5), b
    a.close()
    b.close()


def frame(message, described=(), body=b""):
    head = json.dumps({"m": message, "a": list(described)}).encode()
    return struct.pack(">IQ", len(head), len(body)) + head + body


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="float32").reshape(2, 3),
        np.arange(6, dtype=">i4").reshape(3, 2).T,
        np.array(True),
        np.zeros((0, 3)),
        np.array(["a", "bcd"]),
        np.array([b"x"]),
        np.array([1 + 2j]),
        np.array([np.nan, np.inf]),
    ],
)
def test_arrays_arrive_as_they_were(array):
    a, b = socket.socketpair()
    Wire(a, time.monotonic() + 5).send({"x": [1, None, "é"]}, [array, array])
    message, arrays = Wire(b, time.monotonic() + 5).receive()
    assert message == {"x": [1, None, "é"]}
    for arrived in arrays:
        assert arrived.dtype == array.dtype and arrived.shape == array.shape
        np.testing.assert_array_equal(arrived, array)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IQ", 1 << 31, 0),
        struct.pack(">IQ", 2, 1 << 62) + b"{}",
        frame(1)[:12] + b"x" * (len(frame(1)) - 12),
        struct.pack(">IQ", 2, 0) + b"{}",
        struct.pack(">IQ", 4, 0) + b"null",
        struct.pack(">IQ", 200_000, 0) + b"[" * 200_000,
        frame(1, [["<f4", [2]]], b"123"),
        frame(1, [["<f4", [2]]], b"1234567890"),
        frame(1, [["<f4", [-1]]], b""),
        frame(1, [["<f4", [True]]], b"1234"),
        frame(1, [["<f4", [1 << 50]]], b""),
        frame(1, [["<f4", [1.0]]], b"1234"),
        frame(1, [["O", [1]]], b"12345678"),
        frame(1, [["V8", [1]]], b"12345678"),
        frame(1, [["M8[s]", [1]]], b"12345678"),
        frame(1, [[[["a", "<f4"]], [1]]], b"1234"),
        frame(1, [["<f4", [1] * 40]], b"1234"),
        frame(1, [["|b1", [2]]], b"\x00\x02"),
        frame(1, [["<U1", [1]]], struct.pack("<I", 0x110000)),
        frame(1, [3], b""),
    ],
    ids=range(20),
)
def test_malformed_frames_are_refused(pair, data):
    wire, other = pair
    other.sendall(data[: 1 << 18])
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(WireError):
        wire.receive()


def test_a_pickle_is_bytes_and_nothing_else(pair):
    class Trap:
        def __reduce__(self):
            raise AssertionError("unpickled")

    wire, other = pair
    data = pickle.dumps(3)
    other.sendall(frame("x", [["|u1", [len(data)]]], data))
    assert bytes(wire.receive()[1][0]) == data


def test_who_ends_and_who_is_silent_are_told_apart(pair):
    wire, other = pair
    wire.deadline = time.monotonic() + 0.05
    with pytest.raises(Late):
        wire.receive()
    wire.deadline = time.monotonic() + 5
    other.close()
    with pytest.raises(Gone):
        wire.receive()


def test_a_drip_of_bytes_does_not_stretch_the_limit(pair):
    wire, other = pair
    wire.deadline = time.monotonic() + 0.3
    other.sendall(frame("x")[:5])
    with pytest.raises(Late):
        wire.receive()


def test_no_check_takes_trouble_on_the_way_for_an_answer():
    assert not issubclass(HarnessError, Exception)
    assert issubclass(WireError, HarnessError) and issubclass(Late, HarnessError)
