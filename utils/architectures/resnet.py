"""ResNet for ImageNet: He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (CVPR 2016), table 1.

The nets with 18 to 152 layers, and the plain ones with 18 and 34: the same without shortcuts. As in the paper, and in
`keras.applications`, a bottleneck has its stride in the first 1x1 convolution; `stride_in="3x3"` is the variant of the
later released code ("v1.5"). Convolutions have no bias where batch normalisation follows; those of `keras.applications`
do: `conv_bias=True`.
"""

from functools import partial

import keras
from keras import layers

from utils.architectures.blocks import classifier, conv_bn, conv_bn_relu, max_pool, scaled, shortcut, small_stem
from utils.architectures.registry import register

# Table 1: blocks in conv2_x to conv5_x. From 50 layers on, the blocks are bottlenecks.
CONFIGURATIONS = {
    "plain18": (2, 2, 2, 2),
    "plain34": (3, 4, 6, 3),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BOTTLENECKS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152"}


@register(*CONFIGURATIONS, input_shape=(224, 224, 3), application=BOTTLENECKS)
def resnet(
    name, input_shape, classes, include_top, stride_in="1x1", conv_bias=False, stem="7x7", shortcuts="B", width=1.0
):  # fmt: skip
    """ResNet, 2015: blocks of two or three convolutions whose input is added to their output.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels, or from 8x8 with the small stem.
        stride_in: "1x1" or "3x3": which convolution of a bottleneck has the stride.
        conv_bias: whether convolutions have biases, which batch normalisation takes away again.
        stem: "7x7" at stride 2 and a pool; "3x3" for small images: a convolution at stride 1, no pool.
        shortcuts: "A", "B" or "C", see `blocks.shortcut`.
        width: multiplier of the numbers of filters.
    """
    options = {"shortcuts": None if name.startswith("plain") else shortcuts, "use_bias": conv_bias}
    strided = partial(bottleneck, stride_in=checked_stride(stride_in, name))
    block = partial(strided if name in BOTTLENECKS else basic, **options)
    return frame(name, input_shape, classes, include_top, CONFIGURATIONS[name], block, stem, width, conv_bias)


def frame(name, input_shape, classes, include_top, blocks, block, stem="7x7", width=1.0, use_bias=False):
    """What all nets of table 1's form share: stem, four stages of blocks, classifier.

    Args:
        name, input_shape, classes, include_top: as in `build`.
        blocks: number of blocks in each of stages 2 to 5.
        block: function of (tensor, filters, strides, name).
        stem, width: as in `resnet`.
        use_bias: of the stem's convolution.

    Returns:
        keras.Model.
    """
    image = x = layers.Input(input_shape, name="image")
    if small_stem(stem, name, "7x7", input_shape, (32, 8)):
        x = conv_bn_relu(x, scaled(64, width), 3, use_bias=use_bias, name="conv1")
    else:
        x = conv_bn_relu(x, scaled(64, width), 7, 2, use_bias=use_bias, name="conv1")
        x = max_pool(x, 3, 2, padding=1, name="pool1")
    for stage, count in enumerate(blocks, 2):
        filters = scaled(64 * 2 ** (stage - 2), width)
        for number in range(1, count + 1):
            x = block(x, filters, 2 if stage > 2 and number == 1 else 1, f"stage{stage}_block{number}")
    if include_top:
        x = classifier(x, classes)
    return keras.Model(image, x, name=name)


def checked_stride(stride_in, name):
    """The option, or an error where it is neither "1x1" nor "3x3"."""
    if stride_in not in ("1x1", "3x3"):
        raise ValueError(f"{name}: stride_in is '1x1' or '3x3', not {stride_in!r}")
    return stride_in


def basic(x, filters, strides, name, shortcuts="B", use_bias=False):
    """Two 3x3 convolutions and a shortcut, figure 5 left: (B, H, W, C) -> (B, H / strides, W / strides, filters).

    Args:
        x: tensor.
        filters, strides: of the block.
        name: prefix of its layers: `{name}_conv1`, `{name}_conv1_bn`, ..., `{name}_add`, `{name}_relu`.
        shortcuts: "A", "B", "C", or None for a plain block.
        use_bias: of the convolutions.
    """
    side = shortcuts and shortcut(x, filters, strides, shortcuts, use_bias, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 3, strides, use_bias=use_bias, name=f"{name}_conv1")
    y = conv_bn(y, filters, 3, use_bias=use_bias, name=f"{name}_conv2")
    return joined(side, y, name)


def bottleneck(
    x, filters, strides, name, shortcuts="B", use_bias=False, stride_in="1x1", inner=None, groups=1, recalibrate=None
):  # fmt: skip
    """1x1, 3x3 and 1x1 convolutions and a shortcut, figure 5 right: (B, H, W, C) -> (B, H / strides, W / strides, 4
    filters).

    Args:
        x, filters, strides, name, shortcuts, use_bias: as in `basic`.
        stride_in: "1x1" or "3x3".
        inner: filters of the first two convolutions; None: `filters`. More of them is a wide ResNet.
        groups: of the 3x3 convolution: ResNeXt's cardinality.
        recalibrate: None, or a function of (tensor, name) on the branch before the sum, as squeeze and excitation.
    """
    first, second = (strides, 1) if stride_in == "1x1" else (1, strides)
    inner = inner or filters
    side = shortcuts and shortcut(x, 4 * filters, strides, shortcuts, use_bias, f"{name}_shortcut")
    y = conv_bn_relu(x, inner, 1, first, use_bias=use_bias, name=f"{name}_conv1")
    y = conv_bn_relu(y, inner, 3, second, groups=groups, use_bias=use_bias, name=f"{name}_conv2")
    y = conv_bn(y, 4 * filters, 1, use_bias=use_bias, name=f"{name}_conv3")
    return joined(side, recalibrate(y, f"{name}_se") if recalibrate else y, name)


def joined(side, y, name):
    """Sum of shortcut and branch (the branch alone where there is none), then ReLU."""
    if side is not None:
        y = layers.Add(name=f"{name}_add")([side, y])
    return layers.ReLU(name=f"{name}_relu")(y)
