"""Calls across the wire in a plain lab's words: what a check hands to an answer, and what an answer gives inside a
training step."""

import pytest

from course.grading.batch import Job
from course.grading.release import Release
from course.grading.sandbox import Limits

# A layer that calls the answer in the traced step of `fit`, against the same network with the function at home. The
# second result is an integer without a gradient; the last batch is smaller than the others.
TRAINED = """
import keras, numpy as np
from keras import ops

def home(a, b):
    return ops.sin(a)[:, None] * ops.exp(b[:, :, None]), ops.argmax(b, axis=-1)

class Both(keras.layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function, self.inner = function, keras.layers.Dense(3)
        self.outer = keras.layers.Dense(1)

    def call(self, x):
        long, where = self.function(self.inner(x), x)
        return self.outer(ops.reshape(long, (-1, 6))) + ops.cast(where, "float32")[:, None]

def weights(function):
    keras.utils.set_random_seed(4)
    image = keras.Input((2,))
    model = keras.Model(image, Both(function)(image))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = np.random.default_rng(1).normal(size=(23, 2)).astype("float32")
    model.fit(x, x[:, :1], batch_size=5, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()

for mine, theirs in zip(weights(home), weights(add)):
    np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-6)
"""
RIGHT = """
from keras import ops

def add(a, b):
    return ops.sin(a)[:, None] * ops.exp(b[:, :, None]), ops.argmax(b, axis=-1)
"""
HANDED = """
import keras

class Counter:
    def __init__(self):
        self.steps = []

    def step(self, by):
        self.steps.append(by)
        return sum(self.steps)

    def _reset(self):
        self.steps.clear()

class Scale(keras.layers.Layer):
    def twice(self, x):
        return 2 * x

counter = Counter()
assert add(counter, 4) == 4 and add(counter, 3) == 7 and counter.steps == [4, 3], counter.steps
assert add(Scale(), 4) == 8
"""
STEP = "def add(a, b):\n    return a.twice(b) if hasattr(a, 'twice') else a.step(b)\n"


TENSORS = """
import keras, numpy as np
from keras import ops

answer = add(ops.convert_to_tensor([1.0, 2.0]), np.ones(2))
assert ops.is_tensor(answer[0]) and not ops.is_tensor(answer[1]), answer
assert float(answer[0][1]) == 3 and answer[1].tolist() == [2, 2], answer
"""


@pytest.fixture
def judged(manifest, lab, boxes):
    def judged(source, answer):
        """The verdict on one answer by one check."""
        release = Release(manifest, lab)
        check = next(check for check in release.checks if check.gap == "add")
        release.checks = [check.__class__(check.id, check.gap, check.points, source, check.index)]
        program = release.program({"add": answer})
        verdict = boxes(Job("x", release.name, program, None, {}, {}, Limits(cell_seconds=60)))["verdict"]
        return verdict["checks"]["add-check"]

    return judged


def test_a_layer_of_the_release_trains_through_an_answer(judged):
    assert judged(TRAINED, RIGHT) == {"status": "passed", "text": ""}


@pytest.mark.parametrize("wrong", ["ops.sin(a)", "ops.argmax(b, axis=-1)"])
def test_a_wrong_answer_within_a_training_step_fails(judged, wrong):
    other = {"ops.sin(a)": "ops.cos(a)", "ops.argmax(b, axis=-1)": "ops.argmin(b, axis=-1)"}[wrong]
    assert judged(TRAINED, RIGHT.replace(wrong, other))["status"] == "failed"


def test_the_methods_of_what_a_check_hands_over_may_be_called(judged):
    assert judged(HANDED, STEP) == {"status": "passed", "text": ""}


@pytest.mark.parametrize(
    ("of", "reach", "told"),
    [
        ("step", "a._peer.call(a._target, '_reset', (), {})", "not open"),
        ("step", "a._peer.call(a._target, '__init__', (), {})", "not open"),
        ("twice", "a._peer.call(a._target, 'set_weights', ([],), {})", "not open"),
        ("twice", "a._peer.call(a._target, 'save_own_variables', ({},), {})", "not open"),
        ("step", "a._reset()", "no attribute '_reset'"),
        ("step", "a.steps.clear()", "no attribute 'steps'"),
        ("twice", "a.set_weights([])", "no attribute 'set_weights'"),
    ],
)
def test_nothing_else_of_it_can_be_reached(judged, of, reach, told):
    answer = f"def add(a, b):\n    if hasattr(a, {of!r}):\n        {reach}\n"
    verdict = judged(HANDED, answer + STEP.partition("\n")[2])
    assert verdict["status"] == "failed" and told in verdict["text"]


def test_a_tensor_comes_back_as_one_and_an_array_as_one(judged):
    answer = "def add(a, b):\n    return a + 1, b + 1\n"
    assert judged(TENSORS, answer) == {"status": "passed", "text": ""}
    assert judged(TENSORS, answer.replace("a + 1", "a.numpy() + 1"))["status"] == "failed"
