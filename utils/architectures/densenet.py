"""DenseNet: Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks" (CVPR 2017).

Each layer sees the maps of all layers before it in its block: with growth rate k, layer l gets k0 + k (l - 1) channels
and adds k. The ImageNet networks follow table 1 (bottleneck of 4k, compression 1/2, stem of 2k); the CIFAR networks
section 4.1 and table 2: three blocks at 32, 16 and 8 pixels, plain (`densenet40_12`) or with bottleneck and compression
(`densenet_bc100_12`).

Counted are trainable weights, as everywhere here. 121, 169 and 201 have 7,978,856, 14,149,480 and 20,013,928,
torchvision's figures; Keras prints 8,062,504, 14,307,880 and 20,242,984 because it adds the running statistics (83,648,
158,400 and 229,056). Departures: none in the layers; the layers of a CIFAR network have no dropout unless told (the
paper: .2 without augmentation).
"""

import keras
from keras import layers

from utils.architectures.blocks import batch_norm, bn_relu_conv, classifier, conv, max_pool
from utils.architectures.registry import register

# name: (layers of each block, growth rate k, channels k0 of the stem, compression); the bottleneck stands where
# compression is < 1.
IMAGENET = {
    "densenet121": ((6, 12, 24, 16), 32, 64, 0.5),
    "densenet161": ((6, 12, 36, 24), 48, 96, 0.5),
    "densenet169": ((6, 12, 32, 32), 32, 64, 0.5),
    "densenet201": ((6, 12, 48, 32), 32, 64, 0.5),
}
CIFAR = {
    "densenet40_12": ((12, 12, 12), 12, 16, 1.0),
    "densenet100_12": ((32, 32, 32), 12, 16, 1.0),
    "densenet_bc100_12": ((16, 16, 16), 12, 24, 0.5),
    "densenet_bc250_24": ((41, 41, 41), 24, 48, 0.5),
}
EPSILON = 1.001e-5  # of keras.applications


@register(
    *IMAGENET,
    input_shape=(224, 224, 3),
    application={"densenet121": "DenseNet121", "densenet169": "DenseNet169", "densenet201": "DenseNet201"},
)
def densenet(name, input_shape, classes, include_top, stem_stride=2, blocks=None, growth=None, dropout=0.0):
    """DenseNet-BC for ImageNet, 2017: four blocks of densely connected bottlenecks.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels, or from 8x8 with stem_stride=1.
        stem_stride: 2; or 1 for small images: a 3x3 convolution and no pooling in place of the 7x7 and the max-pooling.
        blocks, growth: layers of each block and growth rate k; None for the name's own. The stem has 2k channels.
        dropout: rate behind every layer of a block.
    """
    blocks, growth, channels, compression = _configuration(IMAGENET[name], blocks, growth)
    least = 32 if stem_stride > 1 else 8
    if min(size or least for size in input_shape[:2]) < least:
        raise ValueError(f"{name} needs an image of {least}x{least} or more, not {input_shape[0]}x{input_shape[1]}")
    image = layers.Input(input_shape, name="image")
    x = conv(image, channels, 7 if stem_stride > 1 else 3, stem_stride, use_bias=False, name="stem_conv")
    x = batch_norm(x, "stem_bn", epsilon=EPSILON)
    x = layers.ReLU(name="stem_relu")(x)
    if stem_stride > 1:
        x = max_pool(x, 3, 2, padding=1, name="pool1")
    return _finish(name, image, x, blocks, growth, compression, classes, include_top, dropout)


@register(*CIFAR, input_shape=(32, 32, 3), classes=10)
def densenet_cifar(name, input_shape, classes, include_top, blocks=None, growth=None, dropout=0.0):
    """DenseNet for CIFAR, 2017: three densely connected blocks, with ("bc") or without bottleneck and compression.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 4x4 pixels.
        blocks, growth: layers of each block and growth rate k; None for the name's own.
        dropout: rate behind every layer of a block; the paper's is .2 where it does not augment.
    """
    blocks, growth, channels, compression = _configuration(CIFAR[name], blocks, growth)
    image = layers.Input(input_shape, name="image")
    x = conv(image, channels, 3, use_bias=False, name="stem_conv")
    return _finish(name, image, x, blocks, growth, compression, classes, include_top, dropout)


def dense_layer(x, growth, bottleneck, dropout, name):
    """One layer of a dense block: x with `growth` maps more, made of all that x holds.

    Args:
        x: (B, H, W, C) tensor.
        growth: growth rate k.
        bottleneck: whether a 1x1 convolution to 4k maps comes first.
        dropout: rate.
        name: prefix of the layers.

    Returns:
        (B, H, W, C + k) tensor.
    """
    new = x
    if bottleneck:
        new = bn_relu_conv(new, 4 * growth, 1, name=f"{name}_conv1", epsilon=EPSILON)
    new = bn_relu_conv(new, growth, 3, name=f"{name}_conv{1 + bottleneck}", epsilon=EPSILON)
    if dropout:
        new = layers.Dropout(dropout, name=f"{name}_dropout")(new)
    return layers.Concatenate(name=f"{name}_concat")([x, new])


def transition(x, compression, name):
    """Between two blocks: a 1x1 convolution that keeps `compression` of the maps, and 2x2 average pooling."""
    x = bn_relu_conv(x, int(x.shape[-1] * compression), 1, name=f"{name}_conv", epsilon=EPSILON)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def _configuration(own, blocks, growth):
    """The name's own, or with other blocks and growth: 2k channels in the stem, 16 where there is no compression."""
    own_blocks, own_growth, channels, compression = own
    growth = growth or own_growth
    return blocks or own_blocks, growth, channels if compression == 1 else 2 * growth, compression


def _finish(name, image, x, blocks, growth, compression, classes, include_top, dropout):
    for stage, count in enumerate(blocks, 1):
        if stage > 1:
            x = transition(x, compression, f"transition{stage - 1}")
        for layer in range(1, count + 1):
            x = dense_layer(x, growth, compression < 1, dropout, f"stage{stage}_layer{layer}")
    x = layers.ReLU(name="last_relu")(batch_norm(x, "last_bn", epsilon=EPSILON))
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)
