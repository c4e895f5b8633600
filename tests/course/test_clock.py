"""The clock of limits: the machine's own pace, between that of the wall and a tenth of it."""

import os
import time

import pytest

from course.execution import clock
from course.execution.clock import Clock


@pytest.mark.parametrize(
    ("load", "cores", "expected"),
    [(0.0, 2, 1.0), (2.0, 2, 1.0), (3.0, 2, 1.5), (8.0, 2, 4.0), (500.0, 2, clock.SLOWEST), (3.0, None, 3.0)],
)
def test_crowding(monkeypatch, load, cores, expected):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 99.0, 99.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert clock.crowding() == expected


def test_where_load_is_not_counted_the_clock_is_that_of_the_wall(monkeypatch):
    monkeypatch.delattr(os, "getloadavg")
    assert clock.crowding() == 1.0


def test_each_second_counts_as_much_as_the_machine_had_time_for():
    now, crowd = [100.0], [1.0]
    limit = Clock(lambda: crowd[0], lambda: now[0])
    assert limit.seconds() == 0
    now[0] += 10
    assert limit.seconds() == 10
    now[0], crowd[0] = now[0] + 10, 4.0
    assert limit.seconds() == 12.5
    assert limit.seconds() == 12.5
    now[0], crowd[0] = now[0] + 10, 1.0
    assert limit.seconds() == 22.5


def test_by_default_it_is_the_clock_of_this_machine():
    before = time.monotonic()
    limit = Clock()
    time.sleep(0.02)
    assert 0.02 / clock.SLOWEST <= limit.seconds() <= time.monotonic() - before
