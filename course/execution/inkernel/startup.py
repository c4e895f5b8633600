"""The first that runs in a kernel, as a start-up file of IPython's: the guard of the output, and the notes of what is
read.

Its parts are modules of the kernel, so that nothing of them stands among the notebook's names.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def start(output_bytes: int, notes: str) -> None:
    """Let each cell print so many bytes, and note in the file `notes` what the notebook reads."""
    reading, output, _ = (_module(name) for name in ("reading", "output", "trial"))
    output.install(output_bytes, reading.install(notes))


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"_course_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
