"""SqueezeNet: Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer
parameters" (2016).

Table 1 and figure 2 for `squeezenet1_0`, with simple bypass as an option; `squeezenet1_1` is the authors' later
release, with pools
moved up: 2.4 times fewer MACs. The table's 111 x 111 maps behind a 7x7 of stride 2 need 227 pixels, not the 224 it
prints; at 224, as here and in torchvision, they are 109 x 109. Pools round up (Caffe's way), which keeps 27 and 13
pixels at both sizes. Departures: He initialisation.
"""

import keras
from keras import layers

from utils.architectures.blocks import conv_relu, scaled
from utils.architectures.registry import register

# name: (stem filters, stem kernel, squeeze channels of the fire modules from fire2 on; "P" is a pool). Each of the two
# expansions has four times the squeeze channels.
CONFIGURATIONS = {
    "squeezenet1_0": (96, 7, (16, 16, 32, "P", 32, 48, 48, 64, "P", 64)),
    "squeezenet1_1": (64, 3, (16, 16, "P", 32, 32, "P", 48, 48, 64, 64)),
}


@register(*CONFIGURATIONS, input_shape=(224, 224, 3))
def squeezenet(name, input_shape, classes, include_top, stem_stride=2, width=1.0, bypass=False, dropout=0.5):
    """SqueezeNet, 2016: eight fire modules and a classifier without dense layers.

    Args:
        name, input_shape, classes, include_top: as in `build`.
        stem_stride: of the first convolution; 1 for small images (32x32), with a 3x3 padded in place of the 7x7 and no
            pool behind it.
        width: multiplier of the channels.
        bypass: whether to add the input of every fire module that keeps the number of channels to its output (fire 3,
            5, 7, 9).
        dropout: rate before the last convolution.
    """
    filters, kernel, fires = CONFIGURATIONS[name]
    filters, least = scaled(filters, width), 8 if stem_stride == 1 else 23
    if min(size or least for size in input_shape[:2]) < least:
        raise ValueError(f"{name} needs an image of {least}x{least} or more, not {input_shape[0]}x{input_shape[1]}")
    image = layers.Input(input_shape, name="image")
    if stem_stride == 1:
        x = conv_relu(image, filters, 3, name="conv1")
    else:
        x = conv_relu(image, filters, kernel, stem_stride, padding="valid", name="conv1")
        x = ceil_pool(x, "pool1")
    number = 1
    for squeeze in fires:
        if squeeze == "P":
            x = ceil_pool(x, f"pool{number}")
            continue
        number += 1
        new = fire(x, scaled(squeeze, width), f"fire{number}")
        x = layers.Add(name=f"fire{number}_bypass")([x, new]) if bypass and new.shape[-1] == x.shape[-1] else new
    if include_top:
        x = layers.Dropout(dropout, name="head_dropout")(x)
        x = conv_relu(x, classes, 1, name="head_conv")
        x = layers.GlobalAveragePooling2D(name="logits")(x)
    return keras.Model(image, x, name=name)


def fire(x, squeeze, name):
    """A fire module: 1x1 convolution to `squeeze` channels, then 1x1 and 3x3 to four times as many each, side by side.

    Returns:
        (B, H, W, 8 squeeze) tensor.
    """
    x = conv_relu(x, squeeze, 1, name=f"{name}_squeeze")
    wide = [conv_relu(x, 4 * squeeze, size, name=f"{name}_expand{size}x{size}") for size in (1, 3)]
    return layers.Concatenate(name=f"{name}_concat")(wide)


def ceil_pool(x, name):
    """3x3 max-pooling with stride 2 that rounds the size up: one zero below and to the right, which behind a ReLU never
    wins.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)
