"""Stochastic depth, and a norm constraint whose axes fit convolutions."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("convnets")
class StochasticDepth(keras.layers.Layer):
    """Leaves out the whole branch of an image at random (Huang et al., "Deep networks with stochastic depth", 2016;
    also "drop path").

    `x + StochasticDepth(.1)(branch(x))`: in training, each image's branch is multiplied by 0 with probability `rate`,
    and by 1 / (1 - rate) otherwise; in inference it stays as it is. (The paper scales in inference instead; the
    expectation is the same.)

    Args:
        rate: float in [0, 1), the probability of leaving the branch out.
        seed: int or None, of the choices.

    Input and output: (B, ...) float.

    Raises:
        ValueError: the rate is not in [0, 1).
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate!r}")
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        draws = keras.random.uniform((ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1)), seed=self.seed_generator)
        return inputs * ops.cast(draws >= self.rate, inputs.dtype) / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable("convnets")
class MaxNorm(keras.constraints.Constraint):
    """Projects the weights that lead to one unit onto a ball: ||w|| <= max_value for every output unit (Srivastava et
    al. 2014).

    `keras.constraints.MaxNorm` has axis 0 as its default: right for a dense kernel (inputs, units), wrong for a
    convolution's (height, width, channels, filters), where it bounds each column of the kernel by itself. Here every
    axis but the last is summed over, which is right for both. Weights inside the ball stay exactly as they are.

    Args:
        max_value: float above 0; 3 to 4 is usual.
        axis: int or tuple, axes that lead to one unit; None: all but the last. A depthwise kernel (height, width,
            channels, multiplier) needs (0, 1), a transposed convolution's (height, width, filters, channels) needs (0,
            1, 3).

    Raises:
        ValueError: max_value is not above 0.
    """

    def __init__(self, max_value=3.0, axis=None):
        if not max_value > 0:
            raise ValueError(f"max_value must be above 0, got {max_value!r}")
        self.max_value = max_value
        self.axis = tuple(axis) if isinstance(axis, (tuple, list)) else axis

    def __call__(self, w):
        w = ops.convert_to_tensor(w)
        axis = tuple(range(len(w.shape) - 1)) if self.axis is None else self.axis
        norms = ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))
        return w * (self.max_value / ops.maximum(norms, self.max_value))

    def get_config(self):
        return {"max_value": self.max_value, "axis": self.axis}
