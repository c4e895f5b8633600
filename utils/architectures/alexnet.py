"""AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS
2012).

Section 3.5 and figure 2, in the paper's order: convolution, ReLU, local response normalisation, pooling. The images are
227x227: the figure's 224 would give (224 - 11) / 4 + 1 = 54.25 places, not 55. The paper's two GPUs are two groups of
channels in the second, fourth and fifth convolution; `groups=1` has none. Departures: He's random weights in place of
deviations of .01 and biases of 1.
"""

import keras
from keras import layers

from utils.architectures.blocks import conv_relu, dense_head, max_pool, scaled, small_stem
from utils.architectures.registry import register
from utils.layers import LocalResponseNormalization


@register("alexnet", input_shape=(227, 227, 3))
def alexnet(
    name, input_shape, classes, include_top, groups=2, head="dense", units=4096, dropout=0.5, stem="11x11", width=1.0
):  # fmt: skip
    """AlexNet, 2012: five convolutions, overlapping pools and three dense layers.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 67x67 pixels, or from 15x15 with the small stem.
        groups: 2 as in the paper, 1 for none.
        head: "dense", the paper's fc6 and fc7; "pool", global average pooling in their place.
        units, dropout: of fc6 and fc7.
        stem: "11x11", at stride 4; "3x3", at stride 1, for small images.
        width: multiplier of the numbers of filters.
    """
    small = small_stem(stem, name, "11x11", input_shape, (67, 15))
    first = {"kernel_size": 3} if small else {"kernel_size": 11, "strides": 4, "padding": "valid"}
    image = layers.Input(input_shape, name="image")
    x = conv_relu(image, scaled(96, width, groups), name="conv1", **first)
    x = LocalResponseNormalization(name="conv1_norm")(x)
    x = max_pool(x, 3, 2, name="pool1")
    x = conv_relu(x, scaled(256, width, groups), 5, groups=groups, name="conv2")
    x = LocalResponseNormalization(name="conv2_norm")(x)
    x = max_pool(x, 3, 2, name="pool2")
    x = conv_relu(x, scaled(384, width, groups), 3, name="conv3")
    x = conv_relu(x, scaled(384, width, groups), 3, groups=groups, name="conv4")
    x = conv_relu(x, scaled(256, width, groups), 3, groups=groups, name="conv5")
    x = max_pool(x, 3, 2, name="pool5")
    if include_top:
        x = dense_head(x, classes, head, units, dropout)
    return keras.Model(image, x, name=name)
