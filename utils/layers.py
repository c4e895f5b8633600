"""Layers that Keras lacks, and a constraint whose axes fit.

All of them take images as (batch, height, width, channels), run on every backend of Keras, and are saved and loaded with a model.
"""

import math
import operator

import keras
from keras import ops


@keras.saving.register_keras_serializable("convnets")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides every value by a power of the energy around it, across channels: x / (k + alpha * sum of x ** 2 over the window) ** beta.

    The window of channel c reaches from c - size // 2 to c + size // 2, cut off at the first and last channel. Constants and form are those
    of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS 2012), section 3.3.

    Implementations disagree about alpha: the paper multiplies the *sum* over the window with it, Caffe and PyTorch the *mean* (they divide
    alpha by `size`, at the edge too), so that the paper's 1e-4 is PyTorch's 5e-4. The paper's form is the default here, because its
    constants are; pass `average=True` for the other.

    Args:
        size: int, odd; channels in the window.
        alpha, beta, k: float, as in the formula.
        average: whether alpha multiplies the mean over the window instead of the sum.

    Input and output: (..., C) float.

    Raises:
        ValueError: the size is not an odd number of at least 1.
    """

    each_place = True  # across channels only: the receptive field stays as it is

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=2.0, average=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"size must be an odd number of channels, got {size!r}")
        self.size, self.average = size, average
        self.alpha, self.beta, self.k = (
            float(alpha),
            float(beta),
            float(k),
        )  # of NumPy, they would change the type of the product

    def call(self, inputs):
        channels, reach = inputs.shape[-1], self.size // 2
        squares = ops.pad(ops.square(inputs), [(0, 0)] * (len(inputs.shape) - 1) + [(reach, reach)])
        energy = sum(squares[..., shift : shift + channels] for shift in range(self.size))
        alpha = self.alpha / self.size if self.average else self.alpha
        return inputs * ops.power(self.k + alpha * energy, -self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k, "average": self.average}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("convnets")
class MaxPoolingWithIndices(keras.layers.Layer):
    """Max pooling that also tells where each maximum was: the "switches" of Zeiler and Fergus (2014), the "pooling indices" of SegNet
    (Badrinarayanan, Kendall and Cipolla 2017).

    Where a window holds its maximum more than once, the first in row-major order counts, and gets the whole gradient.

    Args:
        pool_size: int or (height, width) of a window.
        strides: int or (vertical, horizontal); None: the pool size. Smaller ones make windows overlap.
        padding: "valid", or "same" as in Keras; padding is never a maximum.

    Input: (B, H, W, C) float. Output: two tensors (B, h, w, C): the maxima, and their places, int32, row * W + column within one image and
    channel of the input, as in PyTorch. (TensorFlow's `max_pool_with_argmax` folds the channel in as well.)

    Raises:
        ValueError: sizes or padding are not as above, or the window does not fit the input.
    """

    def __init__(self, pool_size=2, strides=None, padding="valid", **kwargs):
        super().__init__(**kwargs)
        self.pool_size, self.strides, self.padding = _window(pool_size, strides, padding)

    def call(self, inputs):
        return max_pool_with_indices(inputs, self.pool_size, self.strides, self.padding)

    def compute_output_spec(self, inputs):
        batch, *places, channels = inputs.shape
        sizes = [
            n if n is None else _pooled_size(n, f, s, self.padding)
            for n, f, s in zip(places, self.pool_size, self.strides)
        ]
        shape = (batch, *sizes, channels)
        return keras.KerasTensor(shape, self.compute_dtype), keras.KerasTensor(shape, "int32")

    def compute_output_shape(self, input_shape):
        pooled, indices = self.compute_output_spec(keras.KerasTensor(input_shape))
        return pooled.shape, indices.shape

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("convnets")
class MaxUnpooling(keras.layers.Layer):
    """Puts pooled values back to where the maxima were; zero elsewhere. The transpose of max pooling with its switches held fixed.

    Where windows overlap, one place may be the maximum of several of them: their values add up, as in the backward pass of max pooling.
    Unpooling what was just pooled then gives a multiple of the maximum there; PyTorch's `MaxUnpool2d` keeps one of the values instead.

    The size of the output cannot be read off the pooled values: inputs of 6 and 7 pixels both pool to 3. It must be that of the tensor that
    was pooled, since the places are counted along its rows. It is, in this order:

    1. that of a tensor `like`, `MaxUnpooling()(values, indices, like)`, which works for images of any size;
    2. `output_size`;
    3. what the windows cover, (h - 1) * strides + pool_size under padding "valid" and h * strides under "same": right when the size of the
       pooled tensor was a multiple of the strides (and the windows did not overlap), wrong otherwise.

    Args:
        pool_size, strides, padding: as in the pooling layer; only the third rule uses them.
        output_size: None, int, or (height, width).

    Input: values (B, h, w, C) float, indices (B, h, w, C) int as `MaxPoolingWithIndices` gives them, and `like` (B, H, W, anything).
    Output: (B, H, W, C). What becomes of an index beyond H * W depends on the backend.

    Raises:
        ValueError: sizes or padding are not as above, values and indices differ in shape, or the output is smaller than they are.
    """

    def __init__(self, pool_size=2, strides=None, padding="valid", output_size=None, **kwargs):
        super().__init__(**kwargs)
        self.pool_size, self.strides, self.padding = _window(pool_size, strides, padding)
        self.output_size = None if output_size is None else _pair("output_size", output_size)

    def call(self, values, indices, like=None):
        return max_unpool(values, indices, self._places(ops.shape(values), None if like is None else ops.shape(like)))

    def _places(self, pooled, like):
        if like is not None:
            return tuple(like[1:3])
        if self.output_size is not None:
            return self.output_size
        covers = zip(pooled[1:3], self.pool_size, self.strides)
        return tuple(n if n is None else n * s if self.padding == "same" else (n - 1) * s + f for n, f, s in covers)

    def compute_output_spec(self, values, indices, like=None):
        if values.shape[1:] != indices.shape[1:]:
            raise ValueError(
                f"values of shape {values.shape} and indices of shape {indices.shape} do not belong together"
            )
        places = self._places(values.shape, None if like is None else like.shape)
        for n, size in zip(values.shape[1:3], places):
            if None not in (n, size) and size < n:
                raise ValueError(f"an output of {places} is smaller than the pooled values, {values.shape[1:3]}")
        return keras.KerasTensor((values.shape[0], *places, values.shape[3]), self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "output_size": self.output_size,
        }


@keras.saving.register_keras_serializable("convnets")
class StochasticDepth(keras.layers.Layer):
    """Leaves out the whole branch of an image at random (Huang et al., "Deep networks with stochastic depth", 2016; also "drop path").

    `x + StochasticDepth(.1)(branch(x))`: in training, each image's branch is multiplied by 0 with probability `rate`, and by 1 / (1 - rate)
    otherwise; in inference it stays as it is. (The paper scales in inference instead; the expectation is the same.)

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
class PositionEmbedding(keras.layers.Layer):
    """Adds a learnt vector to each place of a row: attention alone would not know where its cells stand (Dosovitskiy et al. 2021).

    Input and output: (B, N, C) float, N fixed. The vectors begin at N(0, .02^2).
    """

    each_place = True  # for `utils.arithmetic`: no products, and no place sees another

    def build(self, input_shape):
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.vectors = self.add_weight(shape=tuple(input_shape[1:]), initializer=initializer, name="vectors")

    def call(self, inputs):
        return inputs + self.vectors

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("convnets")
class MaxNorm(keras.constraints.Constraint):
    """Projects the weights that lead to one unit onto a ball: ||w|| <= max_value for every output unit (Srivastava et al. 2014).

    `keras.constraints.MaxNorm` has axis 0 as its default: right for a dense kernel (inputs, units), wrong for a convolution's (height,
    width, channels, filters), where it bounds each column of the kernel by itself. Here every axis but the last is summed over, which is
    right for both. Weights inside the ball stay exactly as they are.

    Args:
        max_value: float above 0; 3 to 4 is usual.
        axis: int or tuple, axes that lead to one unit; None: all but the last. A depthwise kernel (height, width, channels, multiplier)
            needs (0, 1), a transposed convolution's (height, width, filters, channels) needs (0, 1, 3).

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


def max_pool_with_indices(inputs, pool_size=2, strides=None, padding="valid"):
    """Max pooling of a tensor, and where each maximum was. Arguments and results: see `MaxPoolingWithIndices`."""
    window, strides, padding = _window(pool_size, strides, padding)
    height, width = ops.shape(inputs)[1:3]
    (rows, above, below), (columns, left, right) = (
        _positions(n, f, s, padding) for n, f, s in zip((height, width), window, strides)
    )
    padded = ops.pad(inputs, [(0, 0), (above, below), (left, right), (0, 0)], constant_values=-math.inf)
    tops = ops.reshape(ops.arange(rows, dtype="int32") * strides[0] - above, (1, -1, 1, 1))
    lefts = ops.reshape(ops.arange(columns, dtype="int32") * strides[1] - left, (1, 1, -1, 1))
    best = step = None
    for i in range(window[0]):
        for j in range(window[1]):
            # Pixel (i, j) of every window at once: the maximum is found in as many steps as a window has pixels.
            seen = padded[
                :, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]
            ]
            if best is None:
                best, step = seen, ops.zeros_like(seen, dtype="int32")
                continue
            better = seen > best
            best, step = ops.where(better, seen, best), ops.where(better, i * window[1] + j, step)
    places = (tops + step // window[1]) * width + lefts + step % window[1]
    return best, places


def max_unpool(values, indices, output_size):
    """Puts values (B, h, w, C) to the places (B, h, w, C) of an image of `output_size` (H, W); values of one place add up. (B, H, W, C)."""
    batch, channels = ops.shape(values)[0], ops.shape(values)[3]
    height, width = output_size
    area = height * width
    image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1))
    channel = ops.reshape(ops.arange(channels, dtype="int32"), (1, 1, 1, -1))
    flat = (image * area + ops.cast(indices, "int32")) * channels + channel
    total = ops.segment_sum(ops.reshape(values, (-1,)), ops.reshape(flat, (-1,)), num_segments=batch * area * channels)
    return ops.reshape(total, (batch, height, width, channels))


def _pooled_size(n, f, s, padding):
    if padding == "same":
        return -(-n // s)
    if isinstance(n, int) and n < f:
        raise ValueError(f"a pooling window of {f} does not fit an input of {n}")
    return (n - f) // s + 1


def _positions(n, f, s, padding):
    """Number of windows along one axis, and the padding before and after."""
    size = _pooled_size(n, f, s, padding)
    if padding == "valid":
        return size, 0, 0
    surplus = ops.maximum((size - 1) * s + f - n, 0) if not isinstance(n, int) else max((size - 1) * s + f - n, 0)
    return size, surplus // 2, surplus - surplus // 2


def _window(pool_size, strides, padding):
    pool_size = _pair("pool_size", pool_size)
    strides = pool_size if strides is None else _pair("strides", strides)
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}")
    return pool_size, strides, padding


def _pair(name, value):
    try:
        pair = tuple(map(operator.index, value if isinstance(value, (tuple, list)) else (value, value)))
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{name} must be a positive whole number or two of them, got {value!r}")
    return pair
