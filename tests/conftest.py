"""What tests share: the golden values."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

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
