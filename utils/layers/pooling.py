"""Max pooling that keeps the places of the maxima, its unpooling, and max pooling whose window has holes."""

import math
import operator

import keras
from keras import ops


@keras.saving.register_keras_serializable("convnets")
class MaxPoolingWithIndices(keras.layers.Layer):
    """Max pooling that also tells where each maximum was: the "switches" of Zeiler and Fergus (2014), the "pooling
    indices" of SegNet (Badrinarayanan, Kendall and Cipolla 2017).

    Where a window holds its maximum more than once, the first in row-major order counts, and gets the whole gradient.

    Args:
        pool_size: int or (height, width) of a window.
        strides: int or (vertical, horizontal); None: the pool size. Smaller ones make windows overlap.
        padding: "valid", or "same" as in Keras; padding is never a maximum.

    Input: (B, H, W, C) float. Output: two tensors (B, h, w, C): the maxima, and their places, int32, row * W + column
    within one image and channel of the input, as in PyTorch. (TensorFlow's `max_pool_with_argmax` folds the channel in
    as well.)

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
    """Puts pooled values back to where the maxima were; zero elsewhere. The transpose of max pooling with its switches
    held fixed.

    Where windows overlap, one place may be the maximum of several of them: their values add up, as in the backward pass
    of max pooling. Unpooling what was just pooled then gives a multiple of the maximum there; PyTorch's `MaxUnpool2d`
    keeps one of the values instead.

    The size of the output cannot be read off the pooled values: inputs of 6 and 7 pixels both pool to 3. It must be
    that of the tensor that was pooled, since the places are counted along its rows. It is, in this order:

    1. that of a tensor `like`, `MaxUnpooling()(values, indices, like)`, which works for images of any size;
    2. `output_size`;
    3. what the windows cover, (h - 1) * strides + pool_size under padding "valid" and h * strides under "same": right
       when the size of the pooled tensor was a multiple of the strides (and the windows did not overlap), wrong
       otherwise.

    Args:
        pool_size, strides, padding: as in the pooling layer; only the third rule uses them.
        output_size: None, int, or (height, width).

    Input: values (B, h, w, C) float, indices (B, h, w, C) int as `MaxPoolingWithIndices` gives them, and `like` (B, H,
    W, anything). Output: (B, H, W, C). What becomes of an index beyond H * W depends on the backend.

    Raises:
        ValueError: sizes or padding are not as above, values and indices differ in shape, or the output is smaller than
            they are.
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
class DilatedMaxPooling(keras.layers.Layer):
    """Max-pooling of stride 1 whose window has holes: (B, H, W, C) -> (B, H, W, C) with padding "same".

    Args:
        pool_size: (height, width) of the window.
        dilation: distance of the window's pixels.
        before: (above, left) padding; what is left of (pool_size - 1) * dilation goes below and right. None: no padding
            at all.
    """

    def __init__(self, pool_size, dilation, before=(0, 0), **options):
        super().__init__(**options)
        self.pool_size, self.dilation = tuple(pool_size), dilation
        self.before = None if before is None else tuple(before)

    def call(self, x):
        reach = [(size - 1) * self.dilation for size in self.pool_size]
        if self.before is not None:
            pads = [(n, total - n) for n, total in zip(self.before, reach)]
            x = ops.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-math.inf)
        height, width = (n - total for n, total in zip(ops.shape(x)[1:3], reach))
        best = None
        for i in range(0, reach[0] + 1, self.dilation):
            for j in range(0, reach[1] + 1, self.dilation):
                seen = x[:, i : i + height, j : j + width]
                best = seen if best is None else ops.maximum(best, seen)
        return best

    def compute_output_spec(self, x):
        less = [0 if self.before is not None else (size - 1) * self.dilation for size in self.pool_size]
        sizes = [n if n is None else n - gone for n, gone in zip(x.shape[1:3], less)]
        return keras.KerasTensor((x.shape[0], *sizes, x.shape[3]), self.compute_dtype)

    def get_config(self):
        own = {"pool_size": self.pool_size, "dilation": self.dilation, "before": self.before}
        return super().get_config() | own


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
    """Puts values (B, h, w, C) to the places (B, h, w, C) of an image of `output_size` (H, W); values of one place add
    up. (B, H, W, C).
    """
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
