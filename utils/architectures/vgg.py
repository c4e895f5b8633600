"""VGG: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition" (ICLR 2015), table
1.

Configurations A, A-LRN, B, C, D, E are vgg11, vgg11_lrn, vgg13, vgg16_c, vgg16, vgg19. Departures: every net starts
from He's random weights (the paper starts the deep ones from the trained A). vgg16 and vgg19 equal
`keras.applications.VGG16` and `VGG19`.
"""

import keras
from keras import layers

from utils.architectures.blocks import conv_bn_relu, conv_relu, dense_head, max_pool, scaled
from utils.architectures.registry import register
from utils.layers import LocalResponseNormalization

# Table 1: "64" is a 3x3 convolution with 64 filters, "256:1" a 1x1 convolution, M a 2x2 max-pooling.
CONFIGURATIONS = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg11_lrn": "64 LRN M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16_c": "64 64 M 128 128 M 256 256 256:1 M 512 512 512:1 M 512 512 512:1 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


@register(*CONFIGURATIONS, input_shape=(224, 224, 3), application={"vgg16": "VGG16", "vgg19": "VGG19"})
def vgg(
    name,
    input_shape,
    classes,
    include_top,
    head="dense",
    units=4096,
    dropout=0.5,
    batch_norm=False,
    width=1.0,
    configuration=None,
):
    """VGG, 2014: stacks of 3x3 convolutions between 2x2 max-poolings, then three dense layers.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels, where the last map is 1x1.
        head: "dense", the paper's fc6 and fc7, which fit themselves to the image; "pool", global average pooling in
            their place.
        units, dropout: of fc6 and fc7.
        batch_norm: whether batch normalisation follows each convolution, which the paper does not have: deep nets then
            train from random weights.
        width: multiplier of the numbers of filters.
        configuration: another text in the manner of `CONFIGURATIONS`, in place of the name's own.
    """
    text = configuration or CONFIGURATIONS[name]
    least = 2 ** text.split().count("M")
    if min(side or least for side in input_shape[:2]) < least:
        raise ValueError(f"{name} needs an image of {least}x{least} or more, not {input_shape[0]}x{input_shape[1]}")
    image = x = layers.Input(input_shape, name="image")
    stage, number = 1, 0
    for word in text.split():
        if word == "M":
            x = max_pool(x, 2, 2, name=f"pool{stage}")
            stage, number = stage + 1, 0
        elif word == "LRN":
            x = LocalResponseNormalization(name=f"conv{stage}_{number}_norm")(x)
        else:
            filters, _, size = word.partition(":")
            number += 1
            unit = conv_bn_relu if batch_norm else conv_relu
            x = unit(x, scaled(int(filters), width), int(size or 3), name=f"conv{stage}_{number}")
    if include_top:
        x = dense_head(x, classes, head, units, dropout)
    return keras.Model(image, x, name=name)
