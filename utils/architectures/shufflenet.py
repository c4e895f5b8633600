"""ShuffleNet v1 and v2: cheap 1x1 convolutions by groups or by halves, and a shuffle of the channels that mixes them
again.

v1: Zhang, Zhou, Lin and Sun, "ShuffleNet: An extremely efficient convolutional neural network for mobile devices" (CVPR
2018), table 1, groups 1, 2, 3, 4, 8 at about 140 M MACs (the table's 143, 140, 137, 133, 137 leave the classifier's
960,000 and so on out). The first 1x1 of stage 2 is not grouped, its input has 24 channels only.
v2: Ma, Zhang, Zheng and Sun, "ShuffleNet V2: Practical guidelines for efficient CNN architecture design" (ECCV 2018),
table 5.
Departures: none in the layers; padding is the same on every side, as in torchvision, whose counts v2 has exactly.
"""

import keras
from keras import layers, ops

from utils.architectures.blocks import batch_norm, classifier, conv_bn, conv_bn_relu, depthwise, max_pool, scaled
from utils.architectures.registry import register

REPEATS = (4, 8, 4)  # units of stages 2, 3 and 4; the first of each has stride 2
# name: (groups, channels of stage 2; each further stage has twice as many)
V1 = {
    "shufflenet_v1_g1": (1, 144),
    "shufflenet_v1_g2": (2, 200),
    "shufflenet_v1_g3": (3, 240),
    "shufflenet_v1_g4": (4, 272),
    "shufflenet_v1_g8": (8, 384),
}
# name: channels of stages 2, 3 and 4 and of the last convolution
V2 = {
    "shufflenet_v2_x0_5": (48, 96, 192, 1024),
    "shufflenet_v2_x1_0": (116, 232, 464, 1024),
    "shufflenet_v2_x1_5": (176, 352, 704, 1024),
    "shufflenet_v2_x2_0": (244, 488, 976, 2048),
}


@register(*V1, input_shape=(224, 224, 3))
def shufflenet_v1(name, input_shape, classes, include_top, stem_stride=2, width=1.0, repeats=REPEATS, momentum=0.9):
    """ShuffleNet v1, 2018: bottlenecks of grouped 1x1 convolutions with a channel shuffle between them.

    Args:
        name, input_shape, classes, include_top: as in `build`; the name holds the groups.
        stem_stride: 2; or 1 for small images: without stride and without pooling in the stem.
        width: multiplier of the channels (the paper's s), rounded to what divides into the groups.
        repeats: units of stages 2, 3 and 4.
        momentum: of the running statistics.
    """
    groups, channels = V1[name]
    channels = scaled(channels, width, 4 * groups)
    image = layers.Input(input_shape, name="image")
    x = _stem(image, scaled(24, width, groups), stem_stride, momentum)
    for stage, blocks in enumerate(repeats, 2):
        for block in range(1, blocks + 1):
            first = 1 if stage == 2 and block == 1 else groups
            x = unit_v1(x, channels, groups, first, 2 if block == 1 else 1, f"stage{stage}_block{block}", momentum)
        channels *= 2
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)


def unit_v1(x, channels, groups, first_groups, strides, name, momentum=0.9):
    """A unit of v1 (figure 2): grouped 1x1 to a quarter, shuffle, depthwise 3x3, grouped 1x1; added, or with stride 2
    concatenated.

    Args:
        x: (B, H, W, C) tensor.
        channels: of the output; with stride 2 the unit makes channels - C of them, the pooled input is the rest.
        groups: of the last 1x1 convolution and of the shuffle.
        first_groups: of the first 1x1 convolution.
        strides: 1 or 2.
        name: prefix.
        momentum: of the running statistics.
    """
    new = channels if strides == 1 else channels - x.shape[-1]
    y = conv_bn_relu(x, channels // 4, 1, groups=first_groups, name=f"{name}_conv1", momentum=momentum)
    y = ChannelShuffle(groups, name=f"{name}_shuffle")(y)
    y = batch_norm(depthwise(y, 3, strides, name=f"{name}_conv2"), f"{name}_conv2_bn", momentum)
    y = conv_bn(y, new, 1, groups=groups, name=f"{name}_conv3", momentum=momentum)
    if strides == 1:
        y = layers.Add(name=f"{name}_add")([x, y])
    else:
        x = layers.AveragePooling2D(3, strides, padding="same", name=f"{name}_pool")(x)
        y = layers.Concatenate(name=f"{name}_concat")([x, y])
    return layers.ReLU(name=f"{name}_relu")(y)


@register(*V2, input_shape=(224, 224, 3))
def shufflenet_v2(name, input_shape, classes, include_top, stem_stride=2, repeats=REPEATS, momentum=0.9):
    """ShuffleNet v2, 2018: half of the channels pass by, the other half is convolved, then both are shuffled.

    Args:
        name, input_shape, classes, include_top: as in `build`; the name holds the width.
        stem_stride: 2; or 1 for small images: without stride and without pooling in the stem.
        repeats: units of stages 2, 3 and 4.
        momentum: of the running statistics.
    """
    *widths, last = V2[name]
    image = layers.Input(input_shape, name="image")
    x = _stem(image, 24, stem_stride, momentum)
    for stage, (blocks, width) in enumerate(zip(repeats, widths), 2):
        for block in range(1, blocks + 1):
            x = unit_v2(x, width, 2 if block == 1 else 1, f"stage{stage}_block{block}", momentum)
    x = conv_bn_relu(x, last, 1, name="last_conv", momentum=momentum)
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)


def unit_v2(x, channels, strides, name, momentum=0.9):
    """A unit of v2 (figure 3, c and d): split (at stride 2: twice the whole), convolve one side, concatenate, shuffle
    two groups.

    Args:
        x: (B, H, W, C) tensor; with stride 1, C is `channels`.
        channels, strides, name, momentum: as in `unit_v1`.
    """
    half = channels // 2
    style = {"momentum": momentum}
    if strides == 1:
        idle, x = ChannelSplit(name=f"{name}_split")(x)
    else:
        idle = batch_norm(depthwise(x, 3, strides, name=f"{name}_side1"), f"{name}_side1_bn", **style)
        idle = conv_bn_relu(idle, half, 1, name=f"{name}_side2", **style)
    x = conv_bn_relu(x, half, 1, name=f"{name}_conv1", **style)
    x = batch_norm(depthwise(x, 3, strides, name=f"{name}_conv2"), f"{name}_conv2_bn", **style)
    x = conv_bn_relu(x, half, 1, name=f"{name}_conv3", **style)
    x = layers.Concatenate(name=f"{name}_concat")([idle, x])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x)


@keras.saving.register_keras_serializable("utils")
class ChannelSplit(layers.Layer):
    """The first and the second half of the channels: (B, H, W, C) -> two of (B, H, W, C / 2)."""

    each_place = True  # no place looks at another, and nothing is multiplied by weights

    def call(self, x):
        return tuple(ops.split(x, 2, axis=-1))

    def compute_output_shape(self, input_shape):
        return ((*input_shape[:-1], input_shape[-1] // 2),) * 2


@keras.saving.register_keras_serializable("utils")
class ChannelShuffle(layers.Layer):
    """Channel i of group j of G groups of n goes to place i G + j: each group of the output has channels of all groups.

    Args:
        groups: int, a divisor of the channels.
    """

    def __init__(self, groups, **options):
        super().__init__(**options)
        self.groups = groups

    def build(self, input_shape):
        if input_shape[-1] % self.groups:
            raise ValueError(f"{self.name}: {input_shape[-1]} channels do not divide into {self.groups} groups")

    def call(self, x):
        shape = ops.shape(x)
        x = ops.reshape(x, (*shape[:-1], self.groups, x.shape[-1] // self.groups))
        return ops.reshape(ops.swapaxes(x, -1, -2), shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def macs(self, input_shape):
        return 0

    def get_config(self):
        return super().get_config() | {"groups": self.groups}


def _stem(image, channels, strides, momentum):
    x = conv_bn_relu(image, channels, 3, strides, name="stem_conv", momentum=momentum)
    return x if strides == 1 else max_pool(x, 3, 2, padding=1, name="pool1")
