"""LeNet-5: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998), figure
2.

By default as it is usually rebuilt, 61,706 parameters: every map of C3 sees all six of S2, plain average pooling, a
dense layer of logits. The paper's own parts are options: `c3="partial"` (table I), 60,806; with
`subsampling="trainable"` and `output="rbf"` as well, the paper's 60,000. Departures: tanh in place of 1.7159 tanh(2x /
3), no squashing behind plain average pooling, and the output units' bitmaps (figure 3) are seven-segment digits of our
own.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from utils.architectures.blocks import conv_relu
from utils.architectures.registry import register

# Table I: the maps of S2 that each of the sixteen maps of C3 is connected to.
C3 = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
# The lit ones of seven segments (top, top left, top right, middle, bottom left, bottom right, bottom) of the digits 0
# to 9.
SEGMENTS = (
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
)


@register("lenet5", input_shape=(32, 32, 1), classes=10)
def lenet(name, input_shape, classes, include_top, c3="full", subsampling="average", output="dense", activation="tanh"):
    """LeNet-5, 1998: two convolutions with subsampling, a third that is dense at 32x32, and two dense layers.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels.
        c3: "full", or "partial" after table I: 900 parameters fewer.
        subsampling: "average", or "trainable": the mean of 2x2 times a weight plus a bias per map, then the activation.
        output: "dense" logits; or "rbf": minus the squared distance of F6 to a fixed 7x12 picture of each digit, ten
            classes.
        activation: of every layer but the last.
    """
    for option, value, known in (
        ("c3", c3, ("full", "partial")),
        ("subsampling", subsampling, ("average", "trainable")),
        ("output", output, ("dense", "rbf")),
    ):
        if value not in known:
            raise ValueError(f"{name}: {option} is {' or '.join(map(repr, known))}, not {value!r}")
    if min(size or 32 for size in input_shape[:2]) < 32:
        raise ValueError(f"{name} needs an image of 32x32 or more, not {input_shape[0]}x{input_shape[1]}")
    options = {"padding": "valid", "activation": activation, "kernel_initializer": "glorot_uniform"}

    def subsample(x, name):
        x = layers.AveragePooling2D(2, name=name)(x)
        if subsampling == "trainable":
            x = layers.Activation(activation, name=f"{name}_{activation}")(ChannelScale(name=f"{name}_scale")(x))
        return x

    image = layers.Input(input_shape, name="image")
    x = subsample(conv_relu(image, 6, 5, name="c1", **options), "s2")
    if c3 == "full":
        x = conv_relu(x, 16, 5, name="c3", **options)
    else:
        x = layers.Activation(activation, name=f"c3_{activation}")(PartialConv2D(C3, 5, name="c3")(x))
    x = conv_relu(subsample(x, "s4"), 120, 5, name="c5", **options)
    if include_top:
        x = layers.Flatten(name="head_flatten")(x)
        x = layers.Dense(84, activation=activation, name="head_f6")(x)
        if output == "dense":
            x = layers.Dense(classes, name="logits")(x)
        elif classes == 10:
            x = DigitDistance(name="logits")(x)
        else:
            raise ValueError(
                f"{name}: the pictures of output='rbf' are those of the ten digits, not of {classes} classes"
            )
    return keras.Model(image, x, name=name)


@keras.saving.register_keras_serializable("convnets")
class ChannelScale(layers.Layer):
    """A weight and a bias for every channel: what the paper's subsampling does to its sums."""

    each_place = True

    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", name="scale")
        self.bias = self.add_weight(shape=input_shape[-1:], initializer="zeros", name="bias")

    def call(self, x):
        return x * self.scale + self.bias


@keras.saving.register_keras_serializable("convnets")
class PartialConv2D(layers.Conv2D):
    """Convolution in which each filter sees some of the maps.

    Args:
        table: for every filter, the indices of the maps it sees; only these connections have weights.
        kernel_size: int.
        options: further arguments of Conv2D.
    """

    def __init__(self, table, kernel_size, **options):
        super().__init__(len(table), kernel_size, **options)
        self.table = [list(row) for row in table]

    def build(self, input_shape):
        pairs = [(channel, k) for k, row in enumerate(self.table) for channel in row]
        places = np.zeros((len(pairs), input_shape[-1], self.filters), "float32")
        for index, pair in enumerate(pairs):
            places[(index, *pair)] = 1
        self.places = places.reshape(len(pairs), -1)
        shape = (*self.kernel_size, len(pairs))
        self._kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer=self.bias_initializer, name="bias")
        self.channels = input_shape[-1]
        self.built = True

    @property
    def kernel(self):
        """(height, width, C, K) with zeros where there is no connection."""
        kernel = ops.matmul(self._kernel, ops.convert_to_tensor(self.places, self._kernel.dtype))
        return ops.reshape(kernel, (*self.kernel_size, self.channels, self.filters))

    def save_own_variables(self, store):  # Conv2D would save `kernel`
        layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        layers.Layer.load_own_variables(self, store)

    def macs(self, input_shape):
        _, height, width, _ = self.compute_output_shape((None, *input_shape))
        return height * width * math.prod(self._kernel.shape)

    def get_config(self):
        config = super().get_config() | {"table": self.table}
        del config["filters"]
        return config


@keras.saving.register_keras_serializable("convnets")
class DigitDistance(layers.Layer):
    """Minus the squared distance to a fixed picture of each digit, 12 rows of 7 pixels of -1 and +1: (B, 84) -> (B,
    10).
    """

    def build(self, input_shape):
        self.pictures = digits().reshape(10, -1)
        if input_shape[-1] != self.pictures.shape[1]:
            raise ValueError(f"expected {self.pictures.shape[1]} values, got {input_shape[-1]}")

    def call(self, x):
        pictures = ops.convert_to_tensor(self.pictures, x.dtype)
        return -ops.sum((x[:, None, :] - pictures) ** 2, axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 10)

    def macs(self, input_shape):
        return 0


def digits():
    """Pictures of the ten digits in seven segments: (10, 12, 7) float32 of -1 and +1, ink +1."""
    pictures = -np.ones((10, 12, 7), "float32")
    rows = (1, slice(1, 6), slice(1, 6), 5, slice(5, 11), slice(5, 11), 10)
    columns = (slice(1, 6), 1, 5, slice(1, 6), 1, 5, slice(1, 6))
    for picture, lit in zip(pictures, SEGMENTS):
        for on, row, column in zip(lit, rows, columns):
            if on == "1":
                picture[row, column] = 1
    return pictures
