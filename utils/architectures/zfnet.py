"""ZFNet: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (ECCV 2014), figure 3.

AlexNet with a first layer of 7x7 at stride 2 and no groups. The figure's sizes (110, 55, 26, 13, 6) follow from a
padding of 1 in the first layer and in the pools and none in the second; the paper does not state them. Its "contrast
normalisation across feature maps" is taken as AlexNet's local response normalisation. Departures: He's random weights
in place of deviations of .01, no clipping of filters whose norm passes .1.
"""

import keras
from keras import layers

from utils.architectures.blocks import conv_relu, dense_head, max_pool, scaled, small_stem
from utils.architectures.registry import register
from utils.layers import LocalResponseNormalization


@register("zfnet", input_shape=(224, 224, 3))
def zfnet(name, input_shape, classes, include_top, head="dense", units=4096, dropout=0.5, stem="7x7", width=1.0):
    """ZFNet, 2013: five convolutions, the first two coarse, and three dense layers.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 63x63 pixels, or from 17x17 with the small stem.
        head: "dense", the paper's fc6 and fc7; "pool", global average pooling in their place.
        units, dropout: of fc6 and fc7.
        stem: "7x7"; "3x3" for small images: the first two convolutions keep the size.
        width: multiplier of the numbers of filters.
    """
    small = small_stem(stem, name, "7x7", input_shape, (63, 17))
    image = layers.Input(input_shape, name="image")
    if small:
        x = conv_relu(image, scaled(96, width), 3, name="conv1")
    else:
        x = conv_relu(image, scaled(96, width), 7, 2, padding=1, name="conv1")
    x = max_pool(x, 3, 2, padding=1, name="pool1")
    x = LocalResponseNormalization(name="pool1_norm")(x)
    if small:
        x = conv_relu(x, scaled(256, width), 5, name="conv2")
    else:
        x = conv_relu(x, scaled(256, width), 5, 2, padding=0, name="conv2")
    x = max_pool(x, 3, 2, padding=1, name="pool2")
    x = LocalResponseNormalization(name="pool2_norm")(x)
    for number, filters in ((3, 384), (4, 384), (5, 256)):
        x = conv_relu(x, scaled(filters, width), 3, name=f"conv{number}")
    x = max_pool(x, 3, 2, name="pool5")
    if include_top:
        x = dense_head(x, classes, head, units, dropout)
    return keras.Model(image, x, name=name)
