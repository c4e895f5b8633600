"""Darknet-53: Redmon and Farhadi, "YOLOv3: an incremental improvement" (arXiv 1804.02767, 2018), table 1.

A residual net of 3x3 and 1x1 convolutions that halves by strides, never by pooling, and has leaky ReLUs of slope .1.
With its classifier it has 41,609,928 trainable parameters.
"""

import keras
from keras import layers

from utils.architectures.blocks import classifier, conv_bn, scaled
from utils.architectures.registry import register

# Table 1: residual blocks after each halving; the filters double with it.
BLOCKS = (1, 2, 8, 8, 4)
SLOPE = 0.1


@register("darknet53", input_shape=(256, 256, 3))
def darknet53(name, input_shape, classes, include_top, width=1.0):
    """Darknet-53, 2018: the residual net under YOLOv3.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels.
        width: multiplier of the numbers of filters.
    """
    image = layers.Input(input_shape, name="image")
    x = conv_bn_leaky(image, scaled(32, width), 3, name="stage1_conv")
    for stage, count in enumerate(BLOCKS, 2):
        filters = scaled(32 * 2 ** (stage - 1), width)
        x = conv_bn_leaky(x, filters, 3, 2, name=f"stage{stage}_down")
        for number in range(1, count + 1):
            x = block(x, filters, f"stage{stage}_block{number}")
    if include_top:
        x = classifier(x, classes)
    return keras.Model(image, x, name=name)


def block(x, filters, name):
    """1x1 to half the filters, 3x3 back, and the input added."""
    y = conv_bn_leaky(x, filters // 2, 1, name=f"{name}_conv1")
    y = conv_bn_leaky(y, filters, 3, name=f"{name}_conv2")
    return layers.Add(name=f"{name}_sum")([x, y])


def conv_bn_leaky(x, filters, kernel_size, strides=1, name=None):
    """Convolution `name` without bias, `{name}_bn`, `{name}_leaky`."""
    x = conv_bn(x, filters, kernel_size, strides, name=name)
    return layers.LeakyReLU(SLOPE, name=f"{name}_leaky")(x)
