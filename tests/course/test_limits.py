"""What a notebook has used is counted once, whatever its processes do."""

import resource
import subprocess
import sys
import time

from course.execution import limits
from course.execution.limits import Limits, Watch

BURN = "import time\nwhile time.process_time() < {seconds}: pass"


def test_a_process_that_has_ended_counts_once(monkeypatch):
    """Its seconds go to the process that waited for it; they are no longer its own, however often it was seen alive."""
    monkeypatch.setattr(limits, "RESCAN", 0.1)
    monkeypatch.setattr(limits, "INTERVAL", 0.02)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.process_time()
    with Watch(Limits()) as watch:
        for _ in range(6):
            subprocess.run([sys.executable, "-S", "-c", BURN.format(seconds=0.3)], check=True)
        time.sleep(0.3)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    own = time.process_time() - began
    assert children > 1.8
    assert children - 0.05 <= watch.cpu_seconds <= children + own + 0.1
