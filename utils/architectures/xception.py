"""Xception: Chollet, "Xception: Deep learning with depthwise separable convolutions" (CVPR 2017), figure 5.

An inception module in its extreme form, one filter per channel, then a 1x1 convolution; no activation between the two;
residual connections around modules of two or three. As in `keras.applications`, whose weights load. Departure from
figure 5: the dense layer that may stand before the classifier is left out, as there.
"""

import keras
from keras import layers

from utils.architectures.blocks import batch_norm, classifier, conv_bn, conv_bn_relu, he_depthwise, scaled
from utils.architectures.registry import register

ENTRY = (128, 256, 728)  # channels of the modules with stride 2
MIDDLE = (728,)  # of its modules
EXIT = (728, 1024, 1536, 2048)  # the last module with stride 2 and the two separable convolutions behind it


@register("xception", input_shape=(299, 299, 3), application="Xception")
def xception(name, input_shape, classes, include_top, stem_stride=2, middle=8, width=1.0, momentum=0.9, dropout=0.0):
    """Xception, 2017: 36 convolutions, 34 of them depthwise separable, in 14 modules.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 71x71 pixels, or from 8x8 with stem_stride=1.
        stem_stride: of the first convolution; with 1, for small images, the stem is padded.
        middle: number of modules of the middle flow, 8 in the paper.
        width: multiplier of the channels.
        momentum: of the running statistics (Keras: .99).
        dropout: rate before the classifier (the paper's: .5).
    """
    style = {"epsilon": 1e-3, "momentum": momentum}
    padding, least = ("same", 8) if stem_stride == 1 else ("valid", 71)
    if min(size or least for size in input_shape[:2]) < least:
        raise ValueError(f"{name} needs an image of {least}x{least} or more, not {input_shape[0]}x{input_shape[1]}")
    entry, (flow,), exits = ([scaled(c, width) for c in row] for row in (ENTRY, MIDDLE, EXIT))
    image = layers.Input(input_shape, name="image")
    x = conv_bn_relu(image, scaled(32, width), 3, stem_stride, padding=padding, name="stem_conv1", **style)
    x = conv_bn_relu(x, scaled(64, width), 3, padding=padding, name="stem_conv2", **style)
    for stage, channels in enumerate(entry, 1):
        x = module(x, (channels, channels), 2, f"entry{stage}", first_relu=stage > 1, **style)
    for block in range(1, middle + 1):
        x = module(x, (flow,) * 3, 1, f"middle_block{block}", **style)
    x = module(x, exits[:2], 2, "exit_block", **style)
    for number, channels in enumerate(exits[2:], 1):
        x = separable_bn(x, channels, f"exit_conv{number}", **style)
        x = layers.ReLU(name=f"exit_conv{number}_relu")(x)
    return keras.Model(image, classifier(x, classes, dropout) if include_top else x, name=name)


def module(x, channels, strides, name, first_relu=True, **style):
    """Separable convolutions, each behind a ReLU, max-pooling where the stride is 2, and a residual connection.

    Args:
        x: (B, H, W, C) tensor.
        channels: of each convolution in turn.
        strides: 1 (the shortcut is the identity) or 2 (it is a 1x1 convolution).
        name: prefix.
        first_relu: whether a ReLU stands before the first convolution.
        style: momentum and epsilon of batch normalisation.
    """
    shortcut = x
    if strides > 1:
        shortcut = conv_bn(x, channels[-1], 1, strides, padding="same", name=f"{name}_shortcut", **style)
    for number, filters in enumerate(channels, 1):
        if first_relu or number > 1:
            x = layers.ReLU(name=f"{name}_relu{number}")(x)
        x = separable_bn(x, filters, f"{name}_conv{number}", **style)
    if strides > 1:
        x = layers.MaxPooling2D(3, strides, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])


def separable_bn(x, filters, name, **style):
    """Depthwise separable 3x3 convolution, `name`, and batch normalisation, `{name}_bn`."""
    options = {"depthwise_initializer": he_depthwise(3), "pointwise_initializer": "he_uniform"}
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name, **options)(x)
    return batch_norm(x, f"{name}_bn", **style)
