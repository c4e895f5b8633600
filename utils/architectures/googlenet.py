"""GoogLeNet: Szegedy et al., "Going deeper with convolutions" (CVPR 2015), table 1 and figure 3.

The two auxiliary classifiers serve training only and are an option; the paper's text gives their layers (section 5).
Pools of 3x3 at stride 2 hang over the end of the map, as in Caffe, so that 112 becomes 56. Table 1's parameters and
operations are not those of this net in the rows conv1, 4c, 4d, 5a and 5b: they are misprints. Departures: He's random
weights, logits in place of softmax.
"""

import keras
from keras import layers

from utils.architectures.blocks import conv_bn_relu, conv_relu, max_pool, scaled, small_stem
from utils.architectures.registry import register
from utils.layers import LocalResponseNormalization

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@register("googlenet", input_shape=(224, 224, 3))
def googlenet(
    name, input_shape, classes, include_top, auxiliary=False, dropout=0.4, stem="7x7", batch_norm=False, width=1.0
):  # fmt: skip
    """GoogLeNet, 2014: nine inception modules, global average pooling, one dense layer.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels, or from 8x8 with the small stem.
        auxiliary: whether the two heads behind 4a and 4d are there; the model then gives a list, [logits, aux1, aux2],
            for training with `loss_weights=[1, .3, .3]`. `keras.Model(model.input, model.outputs[0])` is the net
            without them.
        dropout: before the dense layer; .7 in the auxiliary heads.
        stem: "7x7"; "3x3" for small images: the first convolution keeps the size and no pool follows it.
        batch_norm: whether batch normalisation follows each convolution, which the paper does not have.
        width: multiplier of the numbers of filters.
    """
    small = small_stem(stem, name, "7x7", input_shape, (32, 8))
    unit = conv_bn_relu if batch_norm else conv_relu
    image = layers.Input(input_shape, name="image")
    if small:
        x = unit(image, scaled(64, width), 3, name="conv1")
    else:
        x = unit(image, scaled(64, width), 7, 2, name="conv1")
        x = max_pool(x, 3, 2, padding="same", name="pool1")
        x = LocalResponseNormalization(name="pool1_norm")(x)
    x = unit(x, scaled(64, width), 1, name="conv2_reduce")
    x = unit(x, scaled(192, width), 3, name="conv2_3x3")
    x = LocalResponseNormalization(name="conv2_norm")(x)
    x = max_pool(x, 3, 2, padding="same", name="pool2")
    heads = []
    for module, filters in MODULES.items():
        if module in ("4a", "5a"):
            x = max_pool(x, 3, 2, padding="same", name=f"pool{int(module[0]) - 1}")
        x = inception(x, [scaled(f, width) for f in filters], f"inception{module}", unit)
        if auxiliary and include_top and module in ("4a", "4d"):
            heads.append(auxiliary_head(x, classes, f"aux{len(heads) + 1}", unit))
    if include_top:
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = layers.Dropout(dropout, name="head_dropout")(x)
        x = layers.Dense(classes, name="logits")(x)
    return keras.Model(image, [x, *heads] if heads else x, name=name)


def inception(x, filters, name, unit=conv_relu):
    """An inception module with reductions, figure 2b.

    Args:
        x: (B, H, W, C) tensor.
        filters: the six numbers of a row of `MODULES`.
        name: prefix of its layers.
        unit: `conv_relu` or `conv_bn_relu`.

    Returns:
        (B, H, W, #1x1 + #3x3 + #5x5 + pool proj) tensor.
    """
    one, reduce3, three, reduce5, five, projection = filters
    branches = [
        unit(x, one, 1, name=f"{name}_1x1"),
        unit(unit(x, reduce3, 1, name=f"{name}_3x3_reduce"), three, 3, name=f"{name}_3x3"),
        unit(unit(x, reduce5, 1, name=f"{name}_5x5_reduce"), five, 5, name=f"{name}_5x5"),
        unit(max_pool(x, 3, 1, padding="same", name=f"{name}_pool"), projection, 1, name=f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def inception_naive(x, filters, name, unit=conv_relu):
    """An inception module without reductions, figure 2a: the pooled input passes with all its channels.

    Args:
        x: (B, H, W, C) tensor.
        filters: numbers of 1x1, 3x3 and 5x5 filters.
        name, unit: as in `inception`.

    Returns:
        (B, H, W, sum of filters + C) tensor.
    """
    branches = [unit(x, f, size, name=f"{name}_{size}x{size}") for f, size in zip(filters, (1, 3, 5))]
    return layers.Concatenate(name=f"{name}_concat")([*branches, max_pool(x, 3, 1, "same", name=f"{name}_pool")])


def auxiliary_head(x, classes, name, unit=conv_relu):
    """An auxiliary classifier: 5x5 average pooling at stride 3, 128 filters of 1x1, a dense layer of 1024, logits."""
    if min(side or 5 for side in x.shape[1:3]) < 5:
        raise ValueError(f"the auxiliary heads need maps of 5x5 or more, not {x.shape[1]}x{x.shape[2]}: a larger image")
    x = unit(layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x), 128, 1, name=f"{name}_conv")
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(layers.Flatten(name=f"{name}_flatten")(x))
    return layers.Dense(classes, name=f"{name}_logits")(layers.Dropout(0.7, name=f"{name}_dropout")(x))
