"""For the proof of wrong answers: the notebook's global names and generators of random numbers, noted and put back."""

from __future__ import annotations

import random
import sys
from typing import Any

from IPython import get_ipython

_noted: dict[str, Any] = {}


def note() -> None:
    """Remember the names and the generators as they are."""
    _noted["names"] = dict(get_ipython().user_ns)
    _noted["python"] = random.getstate()
    _noted["numpy"] = sys.modules["numpy.random"].get_state() if "numpy.random" in sys.modules else None


def restore() -> None:
    """Make them again what they were when `note` was called. An object that was changed in place stays changed."""
    names = get_ipython().user_ns
    for name in set(names) - set(_noted["names"]):
        del names[name]
    names.update(_noted["names"])
    random.setstate(_noted["python"])
    if _noted["numpy"] is not None:
        sys.modules["numpy.random"].set_state(_noted["numpy"])
    _noted.clear()
