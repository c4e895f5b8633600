"""Wide residual networks: Zagoruyko and Komodakis, "Wide residual networks" (BMVC 2016), table 1 (CIFAR) and table 8
(ImageNet).

`wrn_28_10` has 28 convolutions, projections included, and 10 times the filters of a CIFAR ResNet: (28 - 4) / 6
pre-activated blocks a stage, projections where the number of channels changes. `wide_resnet50_2` is ResNet-50 with
twice the filters in the 1x1 and 3x3 convolutions inside its bottlenecks; the stride is in the 3x3, as in the released
code and torchvision.
"""

from functools import partial

import keras
from keras import layers

from utils.architectures.blocks import batch_norm, classifier, conv
from utils.architectures.registry import register
from utils.architectures.resnet import bottleneck, checked_stride, frame

# name: (depth, widening factor)
CIFAR = {"wrn_16_4": (16, 4), "wrn_16_8": (16, 8), "wrn_22_8": (22, 8), "wrn_28_10": (28, 10), "wrn_40_4": (40, 4)}
# name: (bottlenecks of each stage, widening factor)
IMAGENET = {"wide_resnet50_2": ((3, 4, 6, 3), 2), "wide_resnet101_2": ((3, 4, 23, 3), 2)}


@register(*CIFAR, input_shape=(32, 32, 3), classes=10)
def wide_resnet_cifar(name, input_shape, classes, include_top, depth=None, widening=None, dropout=0.0):
    """Wide ResNet for CIFAR, 2016: fewer and wider pre-activated blocks.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 4x4 pixels.
        depth, widening: of the net, 6n + 4 layers and the factor k; None for the name's own.
        dropout: rate between the two convolutions of a block (the paper's: .3).
    """
    depth, widening = depth or CIFAR[name][0], widening or CIFAR[name][1]
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"{name}: depth is 6n + 4, not {depth}")
    image = layers.Input(input_shape, name="image")
    x = conv(image, 16, 3, use_bias=False, name="stem_conv")
    for stage in (1, 2, 3):
        for block in range(1, (depth - 4) // 6 + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = wide_block(x, 8 * 2**stage * widening, strides, f"stage{stage}_block{block}", dropout)
    x = layers.ReLU(name="stage3_relu")(batch_norm(x, "stage3_bn"))
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)


@register(*IMAGENET, input_shape=(224, 224, 3))
def wide_resnet(name, input_shape, classes, include_top, stride_in="3x3", stem="7x7", width=1.0):
    """Wide ResNet for ImageNet, 2016: ResNet with wider bottlenecks.

    Args:
        name, input_shape, classes, include_top, stride_in, stem, width: as in `resnet.resnet`.
    """
    blocks, widening = IMAGENET[name]
    strided = partial(bottleneck, stride_in=checked_stride(stride_in, name))

    def block(x, filters, strides, name):
        return strided(x, filters, strides, name, inner=widening * filters)

    return frame(name, input_shape, classes, include_top, blocks, block, stem, width)


def wide_block(x, filters, strides, name, dropout=0.0):
    """Batch normalisation, ReLU, 3x3 convolution, the same again with dropout before the convolution, shortcut.

    Args:
        x: (B, H, W, C) tensor.
        filters, strides: of the block.
        name: prefix.
        dropout: rate.

    Returns:
        (B, H / strides, W / strides, filters) tensor.
    """
    y = layers.ReLU(name=f"{name}_relu1")(batch_norm(x, f"{name}_bn1"))
    if x.shape[-1] != filters or strides > 1:
        x = conv(y, filters, 1, strides, use_bias=False, name=f"{name}_shortcut")
    y = conv(y, filters, 3, strides, use_bias=False, name=f"{name}_conv1")
    y = layers.ReLU(name=f"{name}_relu2")(batch_norm(y, f"{name}_bn2"))
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = conv(y, filters, 3, use_bias=False, name=f"{name}_conv2")
    return layers.Add(name=f"{name}_add")([x, y])
