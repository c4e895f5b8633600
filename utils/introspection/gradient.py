"""Gradients without a backend's own words, and runs of a model in batches of one size."""

import keras
import numpy as np
from keras import ops

from utils import models
from utils.training import filled_batches


def gradients(function, inputs, batch_size=32):
    """Gradient of the sum of a function's output with respect to its input, on every backend.

    Keras has no gradient function of its own; its optimizers have. A nudge, zero at first, is added to the input, and
    one step of plain gradient descent with learning rate 1 turns the nudge into the gradient, but for the sign. The
    weights of a model inside `function` stay as they are.

    Args:
        function: from a tensor (B, ...) to a tensor with B rows, made of `keras.ops` and models; row i depends on input
            i only.
        inputs: (N, ...) array.
        batch_size: int, inputs at a time.

    Returns:
        NumPy float32 array of the shape of `inputs`.
    """
    inputs = np.asarray(inputs, "float32")
    if not len(inputs):
        return inputs
    batch_size = min(batch_size, len(inputs))
    nudge = Nudge(lambda x, nudge: function(x + nudge), (batch_size, *inputs.shape[1:]))
    return nudge.gradients([inputs])


class Nudge(keras.Model):
    """The gradient of a function with respect to its input, by Keras's own training step, on every backend.

    The function is computed at the input plus `nudge`, a weight that is zero. One step of plain gradient descent with
    learning rate 1 makes the nudge minus the gradient.

    Args:
        function: from batches of inputs and the nudge to a tensor with a row for each, of which the sum's gradient is
            wanted.
        shape: (batch size, ...) of the nudge.
        model: the model whose weights `function` reads; JAX needs to be told, or it would take them for constants.
    """

    def __init__(self, function, shape, model=None):
        # In single precision whatever the policy: under mixed_float16 Keras would cast the images and scale the loss.
        super().__init__(name="gradient", dtype="float32")
        # A function and a tuple of another object's, which Keras does not look into: the weights of a model inside stay
        # out of the optimizer's reach.
        self.function, self._watched = function, _Hidden(model)
        self.nudge = self.add_weight(shape=shape, initializer="zeros", name="nudge")
        self.compile(keras.optimizers.SGD(1.0), jit_compile=keras.backend.backend() == "jax" and model is not None)

    @property
    def non_trainable_variables(self):
        return _with_those_of(self._watched.model, super().non_trainable_variables)

    def call(self, inputs):
        return ops.cast(self.function(*inputs, self.nudge), "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.sum(y_pred)  # not its negative: the rules of guided back-propagation and the deconvnet look at signs

    def gradients(self, inputs):
        """Gradient at zero nudge for inputs, a list of arrays of N rows; (N, ...) float32."""
        size, zeros = self.nudge.shape[0], np.zeros(self.nudge.shape, "float32")
        found = []
        for batch, kept in filled_batches(inputs, size):
            self.nudge.assign(zeros)
            self.train_on_batch(batch, np.zeros(size, "float32"))
            found.append(-ops.convert_to_numpy(self.nudge)[:kept])
        return np.concatenate(found)


class Run(keras.Model):
    """A function of batches of inputs, traced once.

    Args:
        function: from a batch to a tensor, or a dict or list of them; float16 and bfloat16 become float32.
        model: the model whose weights it reads.
    """

    def __init__(self, function, model):
        super().__init__(name="run", dtype="float32")
        self.function, self._watched = function, _Hidden(model)
        self.compile(jit_compile=keras.backend.backend() == "jax")
        self.built = True

    @property
    def non_trainable_variables(self):
        return _with_those_of(self._watched.model, super().non_trainable_variables)

    def call(self, inputs):
        return keras.tree.map_structure(models.single, self.function(*inputs))

    def outputs_of(self, inputs, batch_size):
        """Outputs for inputs, a list of arrays of N rows, in the function's structure: NumPy, N rows."""
        size = min(batch_size, len(inputs[0]))
        found = [
            keras.tree.map_structure(lambda y, kept=kept: np.asarray(y)[:kept], self.predict_on_batch(batch))
            for batch, kept in filled_batches(inputs, size)
        ]
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *found)


def kept_for(model, key, make):
    """What `make` gives, made once for a model and a key, and kept with the model as long as that lives."""
    kept = vars(model).get("_introspection")
    if kept is None:
        kept = _Kept()
        object.__setattr__(model, "_introspection", kept)
    if key not in kept.runs:
        kept.runs[key] = make()
    return kept.runs[key]


class _Kept:
    """Runs of a model, in an object that Keras neither tracks nor saves; a copy of the model starts without them."""

    def __init__(self):
        self.runs = {}

    def __reduce__(self):
        return _Kept, ()


class _Hidden:
    def __init__(self, model):
        self.model = model


def _with_those_of(model, variables):
    if model is None or keras.backend.backend() != "jax":
        return variables
    return [*variables, *model.variables]
