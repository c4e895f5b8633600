"""What a notebook has used is counted once, whatever its processes do."""

import json
import subprocess
import sys

# In a process of its own, which has no other children: 6 processes of .3 CPU seconds each, one after the other.
SCRIPT = """
import json, resource, subprocess, sys, time
from course.execution import limits
limits.RESCAN, limits.INTERVAL = 0.1, 0.02
burn = "import time\\nwhile time.process_time() < 0.3: pass"
before = time.process_time()
with limits.Watch(limits.Limits()) as watch:
    for _ in range(6):
        subprocess.run([sys.executable, "-S", "-c", burn], check=True)
    time.sleep(0.3)
own = time.process_time() - before
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, own, watch.cpu_seconds]))
"""


def test_a_process_that_has_ended_counts_once():
    """Its seconds go to the process that waited for it; they are no longer its own, however often it was seen alive."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    children, own, counted = json.loads(done.stdout)
    assert children > 1.8
    assert children - 0.05 <= counted <= children + own + 0.1
