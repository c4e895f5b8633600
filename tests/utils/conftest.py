import math
import warnings
from functools import cache
from types import SimpleNamespace

import keras
import pytest

from utils import architectures, arithmetic

COUNTED = {}


def pytest_collection_modifyitems(config, items):
    """Under JAX and PyTorch, leave out the tests marked `once`: what they test does not depend on the backend."""
    if keras.backend.backend() == "tensorflow":
        return
    left_out = [item for item in items if item.get_closest_marker("once")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("once")]


@cache
def outlined(name):
    return architectures.outline(name)


def counted(name, macs=False):
    if name not in COUNTED or (macs and not hasattr(COUNTED[name], "macs")):
        COUNTED[name] = count(name, macs)
    return COUNTED[name]


def count(name, macs):
    model = outlined(name)
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    shapes = {"name": model.name, "input_shape": model.input_shape, "output_shape": model.output_shape}
    if not macs:
        return SimpleNamespace(params=trainable, **shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layer that cannot be counted
        total = arithmetic.totals(model)
    assert total["params"] == total["trainable"] == trainable
    return SimpleNamespace(**total, **shapes)


@pytest.fixture(scope="session")
def outline_of():
    """Function from the name of an architecture to its default form without values, built once: do not change it."""
    return outlined


@pytest.fixture(scope="session")
def counts_of():
    """Function from the name of an architecture to what its default form counts, built once for all tests: `params`,
    `name`, `input_shape`, `output_shape`; with macs=True, which takes longer, also `statistics` and `macs`."""
    return counted


class Compiled(keras.Model):
    """A function of tensors as a model, so that each backend compiles it in its own way."""

    def __init__(self, function):
        super().__init__(dtype="float32", autocast=False)
        self.function = function
        self.built = True  # or JAX would call it once outside of a compiled graph

    def call(self, inputs):
        return self.function(*inputs)


@pytest.fixture
def compiled():
    """Function that runs another one, of tensors whose first axis is that of a batch, in a compiled graph:
    `compiled(function, *arrays)`.
    """

    def run(function, *arrays, jit_compile="auto"):
        model = Compiled(function)
        model.compile(jit_compile=jit_compile)
        return model.predict_on_batch(list(arrays))

    return run


@pytest.fixture
def mixed_precision():
    """The policy mixed_float16 while a test runs."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)
