"""Residual nets for CIFAR-10, and what they are compared with.

- resnet20 to resnet110: He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (CVPR 2016), section
  4.2: 6n + 2 layers, 16, 32 and 64 filters, identity shortcuts with zeros for new channels (option A).
- plain20 to plain110: the same without shortcuts.
- resnet20_v2 to resnet164_v2: He et al., "Identity mappings in deep residual networks" (ECCV 2016), figure 1b: batch
  normalisation and ReLU before each convolution. 164 has bottlenecks of 9n + 2 layers, and projections where the shape
  changes; such a projection starts behind the block's first activation, as in the authors' code.
- highway20 to highway56: Srivastava, Greff and Schmidhuber, "Training very deep networks" (NIPS 2015): y = H(x) T(x) +
  x (1 - T(x)) with a gate T of 3x3 filters whose bias starts at -2. Departure: put into ResNet's layout, with its batch
  normalisation; the paper's own nets follow other tables.
"""

import re

import keras
from keras import layers

from utils.architectures.blocks import (
    batch_norm,
    bn_relu_conv,
    classifier,
    conv,
    conv_bn,
    conv_bn_relu,
    scaled,
    shortcut,
)
from utils.architectures.registry import register
from utils.architectures.resnet import basic

DEPTHS = (20, 32, 44, 56, 110)


@register(*(f"resnet{depth}" for depth in DEPTHS), input_shape=(32, 32, 3), classes=10)
@register(*(f"plain{depth}" for depth in DEPTHS), input_shape=(32, 32, 3), classes=10)
@register(*(f"resnet{depth}_v2" for depth in (*DEPTHS, 164)), input_shape=(32, 32, 3), classes=10)
@register(*(f"highway{depth}" for depth in (20, 32, 56)), input_shape=(32, 32, 3), classes=10)
def resnet_cifar(name, input_shape, classes, include_top, shortcuts=None, width=1.0):
    """Residual net of three stages for images of 32x32, 2015: a block of two convolutions, n times a stage.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 4x4 pixels.
        shortcuts: "A", "B" or "C", see `blocks.shortcut`; None for the paper's: A, but B between the bottlenecks of 164
            layers.
        width: multiplier of the numbers of filters.
    """
    kind, depth, preactivated = re.fullmatch(r"([a-z]+)(\d+)(_v2)?", name).groups()
    bottlenecks = depth == "164"
    block, shortcuts = {
        "plain": (basic, None),
        "resnet": (preactivation if preactivated else basic, shortcuts or ("B" if bottlenecks else "A")),
        "highway": (highway, shortcuts or "A"),
    }[kind]
    options = {"bottleneck": bottlenecks} if preactivated else {}
    image = layers.Input(input_shape, name="image")
    if preactivated:
        x = conv(image, scaled(16, width), 3, use_bias=False, name="conv1")
    else:
        x = conv_bn_relu(image, scaled(16, width), 3, name="conv1")
    for stage in (1, 2, 3):
        filters = scaled(8 * 2**stage, width)
        for number in range(1, (int(depth) - 2) // (9 if bottlenecks else 6) + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            x = block(x, filters, strides, f"stage{stage}_block{number}", shortcuts, **options)
    if preactivated:
        x = layers.ReLU(name="stage3_relu")(batch_norm(x, "stage3_bn"))
    if include_top:
        x = classifier(x, classes)
    return keras.Model(image, x, name=name)


def preactivation(x, filters, strides, name, shortcuts="A", bottleneck=False):
    """Batch normalisation and ReLU before each convolution; nothing behind the sum.

    Args:
        x, filters, strides, name, shortcuts: as in `resnet.basic`.
        bottleneck: 1x1, 3x3, 1x1 with 4 filters in place of two 3x3.
    """
    out = 4 * filters if bottleneck else filters
    y = layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_bn"))
    changes = strides > 1 or x.shape[-1] != out
    if shortcuts == "A":
        side = shortcut(x, out, strides, "A", name=f"{name}_shortcut")
    else:
        side = conv(y, out, 1, strides, use_bias=False, name=f"{name}_shortcut") if changes or shortcuts == "C" else x
    if bottleneck:
        y = conv(y, filters, 1, use_bias=False, name=f"{name}_conv1")
        y = bn_relu_conv(y, filters, 3, strides, name=f"{name}_conv2")
        y = bn_relu_conv(y, out, 1, name=f"{name}_conv3")
    else:
        y = conv(y, filters, 3, strides, use_bias=False, name=f"{name}_conv1")
        y = bn_relu_conv(y, filters, 3, name=f"{name}_conv2")
    return layers.Add(name=f"{name}_add")([side, y])


def highway(x, filters, strides, name, shortcuts="A"):
    """A residual block with a gate: T times the two convolutions plus (1 - T) times the shortcut; arguments as
    `resnet.basic`.
    """
    side = shortcut(x, filters, strides, shortcuts, name=f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 3, strides, name=f"{name}_conv1")
    y = layers.ReLU(name=f"{name}_relu")(conv_bn(y, filters, 3, name=f"{name}_conv2"))
    closed = keras.initializers.Constant(-2.0)
    gate = conv(x, filters, 3, strides, activation="sigmoid", bias_initializer=closed, name=f"{name}_gate")
    y = layers.Multiply(name=f"{name}_transformed")([y, gate])
    carry = layers.Rescaling(-1, offset=1, name=f"{name}_carry")(gate)
    side = layers.Multiply(name=f"{name}_carried")([side, carry])
    return layers.Add(name=f"{name}_add")([y, side])
