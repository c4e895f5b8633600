"""What tests share: the golden values, and the settings of the property tests."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# No limit on the time of an example, on machines of any speed; the same examples in every run.
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")

GOLDEN = Path(__file__).parent / "golden"


@cache
def read_golden(name):
    path = GOLDEN / name
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden():
    """Function from the name of a file in tests/golden to its content: JSON as it is, or a dict of arrays."""
    return read_golden
