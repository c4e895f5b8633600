"""Local response normalisation."""

import keras
from keras import ops

from utils import models


@keras.saving.register_keras_serializable("convnets")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides every value by a power of the energy around it, across channels: x / (k + alpha * sum of x ** 2 over the
    window) ** beta.

    The window of channel c reaches from c - size // 2 to c + size // 2, cut off at the first and last channel.
    Constants and form are those of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks" (NIPS 2012), section 3.3.

    Implementations disagree about alpha: the paper multiplies the *sum* over the window with it, Caffe and PyTorch the
    *mean* (they divide alpha by `size`, at the edge too), so that the paper's 1e-4 is PyTorch's 5e-4. The paper's form
    is the default here, because its constants are; pass `average=True` for the other.

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
        # NumPy's float64 would turn a float32 product into float64.
        self.alpha, self.beta, self.k = float(alpha), float(beta), float(k)

    def call(self, inputs):
        channels, reach = inputs.shape[-1], self.size // 2
        # In single precision at least: the square of 256 is beyond float16.
        squares = ops.pad(ops.square(models.single(inputs)), [(0, 0)] * (len(inputs.shape) - 1) + [(reach, reach)])
        energy = sum(squares[..., shift : shift + channels] for shift in range(self.size))
        alpha = self.alpha / self.size if self.average else self.alpha
        return inputs * ops.cast(ops.power(self.k + alpha * energy, -self.beta), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k, "average": self.average}
        return {**super().get_config(), **own}
