"""A clock for limits: it goes as fast as the machine has time for everything that wants to run.

A limit in seconds is there to end what hangs. On a machine with more to do than cores a healthy notebook takes longer
for no fault of its own, so this clock goes slower by as much as there is more to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

SLOWEST = 10.0  # what hangs is ended even so


def crowding() -> float:
    """How many threads want each core, over the last minute: 1 when there is room for all, at most SLOWEST."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows does not count
        return 1.0
    return min(SLOWEST, max(1.0, load / (os.cpu_count() or 1)))


class Clock:
    """Seconds since it was made, as the machine had time for them. It must be read every second or so."""

    def __init__(
        self, crowding: Callable[[], float] = crowding, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._crowding, self._monotonic = crowding, monotonic
        self._read, self._seconds = monotonic(), 0.0

    def seconds(self) -> float:
        now = self._monotonic()
        self._seconds += (now - self._read) / self._crowding()
        self._read = now
        return self._seconds
