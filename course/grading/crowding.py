"""How much slower the clock on the wall goes for a process when others want the machine too.

A limit in seconds ends what hangs. On a busy machine an honest answer takes longer for no fault of its own, so that
such a limit grows with the number of threads that want each core.
"""

from __future__ import annotations

import os

MOST = 10.0  # what hangs is ended even so


def crowding() -> float:
    """Threads that want each core, over the last minute: 1 when there is room for all, at most MOST."""
    return min(MOST, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
