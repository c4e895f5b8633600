"""FCN: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation" (CVPR 2015), figure 3.

A classifier whose dense layers have become convolutions gives a score map of stride 32. FCN-32s enlarges it 32 times;
FCN-16s enlarges it twice, adds scores of stride 16 and enlarges the sum 16 times; FCN-8s adds those of stride 8 as
well. The enlarging is a transposed convolution that begins as bilinear interpolation.

Departures: the paper pads the image by 100 pixels, convolves without padding and crops; here convolutions are padded,
so that maps and image share a grid. Parameters are the same: 134,489,759 for FCN-8s on VGG16 with 21 classes.
"""

import keras
import numpy as np
from keras import layers

from utils import architectures
from utils.backbones import backbone as build_backbone
from utils.backbones import on_images
from utils.layers import cropped, padded


def fcn32(input_shape=(None, None, 3), classes=21, backbone="vgg16", weights=None, name="fcn32", **options):
    """FCN-32s: scores of stride 32, enlarged 32 times at once. Arguments as in `fcn8`."""
    return _fcn(1, input_shape, classes, backbone, weights, name, **options)


def fcn16(input_shape=(None, None, 3), classes=21, backbone="vgg16", weights=None, name="fcn16", **options):
    """FCN-16s: scores of strides 32 and 16, summed, enlarged 16 times. Arguments as in `fcn8`."""
    return _fcn(2, input_shape, classes, backbone, weights, name, **options)


def fcn8(input_shape=(None, None, 3), classes=21, backbone="vgg16", weights=None, name="fcn8", **options):
    """FCN-8s: scores of the strides 32, 16 and 8, summed from coarse to fine, enlarged 8 times.

    Args:
        input_shape: (height, width, channels); height and width None for any size.
        classes: number of classes, background included.
        backbone: what `utils.backbones.backbone` takes: a name of `utils.architectures`, a class of
            `keras.applications`, "small", or a keras.Model. It becomes one layer of the model, "backbone". Of our VGGs,
            a level's map is that of the pool which leads to it, as in the paper.
        weights: of the backbone; for VGG, "imagenet" fills fc6 and fc7 too.
        name: of the model.
        **options: `units` of the convolutions fc6 (7x7) and fc7 (1x1) that stand behind the backbone, None for none, by
            default 4096 for VGG and none for others; `dropout` behind each, .5; `levels`, the backbone's levels that
            are used, rising, by default its three (two, one) last; `bilinear`, whether the transposed convolutions
            begin as interpolation, True, or at random; and the backbone's own, such as `width`.

    Returns:
        keras.Model on images (B, H, W, C), uint8 or float, 0 to 255; gives logits (B, H, W, classes). Images of any
        size: they are padded to multiples of the stride inside, and the logits cropped.

    Raises:
        ValueError: the backbone has not as many levels, or levels with gaps.
    """
    return _fcn(3, input_shape, classes, backbone, weights, name, **options)


def _fcn(
    maps,
    input_shape,
    classes,
    backbone,
    weights,
    name,
    units="paper",
    dropout=0.5,
    levels=None,
    bilinear=True,
    **options,
):
    is_vgg = isinstance(backbone, str) and backbone.lower().startswith("vgg")
    units = (4096 if is_vgg else None) if units == "paper" else units
    any_size = (None, None, input_shape[-1])
    if levels is None and backbone in architectures.names():
        levels = [3, 4, 5][-maps:]
    size = any_size if None in input_shape[:2] else tuple(input_shape)
    if is_vgg and backbone in architectures.names():
        body = _pools(backbone, size, levels, weights, options)
    else:
        body = build_backbone(backbone, size, levels, weights, **options)
    levels = body.levels[-maps:]
    if len(levels) < maps or levels != list(range(levels[0], levels[0] + maps)):
        raise ValueError(f"{name} takes {maps} levels of the backbone without a gap, not {body.levels}")
    image = layers.Input(input_shape, name="image")
    found = body(padded(image, 2 ** levels[-1]))
    found = (found if isinstance(found, list) else [found])[-maps:]
    x = found[-1]
    if units:
        for layer, size in (("fc6", 7), ("fc7", 1)):
            x = layers.Conv2D(
                units, size, padding="same", activation="relu", kernel_initializer="he_normal", name=layer
            )(x)
            x = layers.Dropout(dropout, name=f"{layer}_dropout")(x)
    # Scores begin at zero, as in the paper: every class is equally likely, and the loss is log C.
    x = layers.Conv2D(classes, 1, kernel_initializer="zeros", name=f"score{levels[-1]}")(x)
    for level, skip in zip(levels[-2::-1], found[-2::-1]):
        x = enlarge(x, 2, bilinear, name=f"enlarge{level + 1}")
        skip = layers.Conv2D(classes, 1, kernel_initializer="zeros", name=f"score{level}")(skip)
        x = layers.Add(name=f"sum{level}")([x, skip])
    x = enlarge(x, 2 ** levels[0], bilinear, name="logits")
    model = keras.Model(image, cropped(x, image), name=name)
    if is_vgg and weights == "imagenet" and units == 4096:
        _fill_dense_layers(model, backbone)
    return model


def _pools(name, input_shape, levels, weights, options):
    """The maps of VGG's pools, which the paper takes: a level's is that of the pool that leads to it, not the last
    convolution's.
    """
    body = architectures.build(name, input_shape, include_top=False, weights=weights, **options)
    pools = keras.Model(body.input, [body.get_layer(f"pool{level}").output for level in levels], name=name)
    pools.levels = list(levels)
    return on_images(pools, name if weights == "imagenet" else None)


def enlarge(x, factor, bilinear=True, name=None):
    """A transposed convolution that makes a map `factor` times as large, each channel from all: (B, H, W, C) -> (B, fH,
    fW, C).

    Its filters are 2f x 2f (f even) and without bias. With `bilinear` it begins as interpolation, channel by channel;
    away from the edges, where the map is taken to go on with zeros, that is exactly what `keras.layers.UpSampling2D`
    does.
    """
    channels = x.shape[-1]
    size = 2 * factor - factor % 2
    return layers.Conv2DTranspose(
        channels,
        size,
        factor,
        padding="same",
        use_bias=False,
        kernel_initializer=Bilinear() if bilinear else "he_normal",
        name=name,
    )(x)


@keras.saving.register_keras_serializable("convnets")
class Bilinear(keras.initializers.Initializer):
    """The kernel (k, k, C, C) of a transposed convolution of stride (k + 1) // 2 that interpolates each channel."""

    def __call__(self, shape, dtype=None):
        kernel = np.zeros(shape, "float32")
        for channel in range(min(shape[2:])):
            kernel[:, :, channel, channel] = bilinear_kernel(shape[0])
        return keras.ops.convert_to_tensor(kernel, dtype or "float32")


def bilinear_kernel(size):
    """(size, size) float32: the tent that interpolates between pixels which are (size + 1) // 2 apart. For 4: outer
    product of .25 .75 .75 .25.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    tent = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(tent, tent).astype("float32")


def _fill_dense_layers(model, backbone):
    """fc6 and fc7 of the classifier with ImageNet weights, as convolutions: the same numbers in another shape."""
    classifier = architectures.build(
        backbone if backbone in architectures.names() else backbone.lower(), weights="imagenet"
    )
    for name in ("fc6", "fc7"):
        kernel, bias = classifier.get_layer(name).get_weights()
        layer = model.get_layer(name)
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])
