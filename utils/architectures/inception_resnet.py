"""Inception-ResNet v1 and v2: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the impact of
residual connections on learning" (AAAI 2017).

`inception_resnet_v1` follows figures 10-15: the stem of figure 14, 5 + 10 + 5 modules at 35, 17 and 8 pixels.
`inception_resnet_v2` is the network that was released under this name and that Keras has (its weights load): stem and
first mixed module of Inception-v3 and 10 + 20 + 10 wider modules, not the 5 + 10 + 5 behind the stem of Inception-v4
that the paper draws. In both, the sum of a module is input + scale * residual with the released .17, .1, .2 (the paper:
.1 to .3), and the last module has no activation, scale 1. Batch
normalisation has no gamma: every one is followed by a ReLU and a convolution that could take it up.
"""

import keras
from keras import layers

from utils.architectures.blocks import activate, batch_norm, classifier, conv, scaled
from utils.architectures.registry import register

# fmt: off
HALVE = (3, 2, "valid")
# A branch is a chain of convolutions (filters, kernel), or (filters, kernel, stride, padding); "max" and "mean" are 3x3
# pools.
# Modules of a size: (how many, scale, branches), then the reduction that follows.
V1 = (
    ((5, 0.17, (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3)))),
     (((384, *HALVE),), ((192, 1), (192, 3), (256, *HALVE)), ("max",))),
    ((10, 0.1, (((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1))))),
     (((256, 1), (384, *HALVE)), ((256, 1), (256, *HALVE)), ((256, 1), (256, 3), (256, *HALVE)), ("max",))),
    ((5, 0.2, (((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1))))), None),
)
V2 = (
    ((10, 0.17, (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))),
     (((384, *HALVE),), ((256, 1), (256, 3), (384, *HALVE)), ("max",))),
    ((20, 0.1, (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))),
     (((256, 1), (384, *HALVE)), ((256, 1), (288, *HALVE)), ((256, 1), (288, 3), (320, *HALVE)), ("max",))),
    ((10, 0.2, (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))), None),
)
MIXED = (((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3)), ("mean", (64, 1)))  # of v2, behind its stem
STEM1 = ((32, *HALVE), (32, 3, 1, "valid"), (64, 3))
STEM2 = ((80, 1), (192, 3, 1, "valid"))
STEM3 = ((256, *HALVE),)  # of v1
LAST = 1536  # the 1x1 convolution behind the modules of v2
# fmt: on


@register(
    "inception_resnet_v1",
    "inception_resnet_v2",
    input_shape=(299, 299, 3),
    application={"inception_resnet_v2": "InceptionResNetV2"},
)
def inception_resnet(name, input_shape, classes, include_top, blocks=None, width=1.0, momentum=0.9, dropout=0.2):
    """Inception-ResNet, 2017: inception modules whose output is scaled and added to their input.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 75x75 pixels.
        blocks: number of modules at each of the three sizes; None for the name's own.
        width: multiplier of the filters.
        momentum: of the running statistics (Keras: .99; the paper: .9997).
        dropout: rate before the classifier (the paper keeps .8).
    """
    if min(size or 75 for size in input_shape[:2]) < 75:
        raise ValueError(f"{name} needs an image of 75x75 or more, not {input_shape[0]}x{input_shape[1]}")
    second = name == "inception_resnet_v2"
    options = {"width": width, "momentum": momentum}
    image = layers.Input(input_shape, name="image")
    x = branch(image, STEM1, "stem1", **options)
    x = layers.MaxPooling2D(3, 2, name="stem2_pool")(x)
    x = branch(x, STEM2, "stem2", **options)
    if second:
        x = layers.MaxPooling2D(3, 2, name="stem3_pool")(x)
        x = mixed(x, MIXED, "stem3", **options)
    else:
        x = branch(x, STEM3, "stem3", **options)
    table = V2 if second else V1
    counts = blocks or [count for (count, *_), _ in table]
    for stage, (count, ((_, scale, branches), reduction)) in enumerate(zip(counts, table), 1):
        for block in range(1, count + 1):
            linear = reduction is None and block == count
            x = residual(x, branches, 1.0 if linear else scale, not linear, f"stage{stage}_block{block}", **options)
        if reduction:
            x = mixed(x, reduction, f"reduction{stage}", **options)
    if second:
        x = branch(x, ((LAST, 1),), "last", **options)
    return keras.Model(image, classifier(x, classes, dropout) if include_top else x, name=name)


def residual(x, branches, scale, relu, name, width=1.0, momentum=0.9):
    """x + scale * residual: the branches side by side, a 1x1 convolution with bias to the channels of x; then ReLU.

    Args:
        x: (B, H, W, C) tensor.
        branches: chains of convolutions.
        scale: float.
        relu: whether a ReLU follows.
        name: prefix.
        width: multiplier of the branches' filters.
        momentum: of the running statistics.
    """
    y = mixed(x, branches, name, width, momentum)
    y = conv(y, x.shape[-1], 1, name=f"{name}_up")
    if scale != 1:
        y = layers.Rescaling(scale, name=f"{name}_scale")(y)
    y = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(y) if relu else y


def mixed(x, branches, name, width=1.0, momentum=0.9):
    """The branches side by side, concatenated."""
    outputs = [branch(x, chain, f"{name}_branch{b}", width, momentum) for b, chain in enumerate(branches, 1)]
    return layers.Concatenate(name=f"{name}_concat")(outputs)


def branch(x, chain, name, width=1.0, momentum=0.9):
    """A chain of convolutions, each with batch normalisation (without gamma) and ReLU, and of pools; see the table."""
    for number, step in enumerate(chain, 1):
        if step == "max":
            x = layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
        elif step == "mean":
            x = layers.AveragePooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
        else:
            filters, kernel, *rest = step
            strides, padding = rest or (1, "same")
            label = f"{name}_conv{number}"
            x = conv(x, scaled(filters, width), kernel, strides, padding, use_bias=False, name=label)
            x = activate(batch_norm(x, f"{label}_bn", momentum, 1e-3, scale=False), "relu", f"{label}_relu")
    return x
