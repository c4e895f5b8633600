"""Any network as a backbone: from images as they come to feature maps of several strides, for segmentation and
detection.

`backbone("resnet50", (None, None, 3), levels=[3, 4, 5])` gives the maps of strides 8, 16 and 32. `maps` has the one
rule that says which map of a network stands for a level, and `preprocessed` the one that says what becomes of the
pixels.
"""

import math

import keras
import numpy as np
from keras import layers

from utils import architectures, pretrained
from utils.arithmetic import graph

# A size at which every stride up to 2^7 divides without a rest, for networks that take images of any size.
SIDE = 512


def backbone(name, input_shape, levels=None, weights=None, **options):
    """A network on images as they come that gives a map for each level; level l has a stride of 2^l pixels.

    Args:
        name: one of
            - a name of `utils.architectures.names()`;
            - a class of `keras.applications`, such as "MobileNetV2";
            - "small", `utils.pretrained.backbone` with random weights, or a name of `utils.pretrained.names()`, the
              same with those weights (levels 0 to 2, of "shapes" 1 to 4; colour images are turned to grey if the
              weights are for grey ones);
            - a functional keras.Model on images (B, H, W, C), 0 to 255, which is used as it is: its layers and weights
              are shared, not copied. Models nested in it are not looked into.
        input_shape: (height, width, channels); height and width None for any size that is a multiple of the largest
            stride.
        levels: sequence of ints, rising; None: all that the network has. `maps` says which map stands for a level.
        weights: None (random) or "imagenet". The path of a file that `save_weights` wrote, for an architecture of ours.
        **options: further arguments of the architecture, such as `width` or `alpha`.

    Returns:
        keras.Model called "backbone" on images (B, H, W, C), uint8 or float, 0 to 255, preprocessing inside; gives a
        list of maps (B, H / 2^l, W / 2^l, C_l), one per level (for one level alone, that map, as Keras's models do).
        Its attribute `levels` is the list of the levels.

    Raises:
        ValueError: an unknown network, a level that it does not have, weights or channels that do not fit.
        DataUnavailable: ImageNet weights that are not at hand.
    """
    if isinstance(name, keras.Model):
        _takes_no(name.name, weights, options)
        found = _with_levels(name, levels)
        if found.input_shape[-1] != input_shape[-1]:
            raise ValueError(f"{name.name} takes images of {found.input_shape[-1]} channels, not {input_shape[-1]}")
        return found
    input_shape = tuple(input_shape)
    if name == "small" or name in pretrained.names():
        _takes_no(name, weights, options)
        return _small(name, input_shape, levels)
    if name in architectures.names():
        body = architectures.build(name, input_shape, include_top=False, weights=weights, **options)
        return on_images(_with_levels(body, levels, name), name if weights == "imagenet" else None)
    if not isinstance(name, str) or not hasattr(keras.applications, name):
        raise ValueError(
            f"no backbone {name!r}: give a name of utils.architectures.names(), a class of keras.applications such as "
            f"'MobileNetV2', 'small', one of {', '.join(pretrained.names())}, or a keras.Model"
        )
    if input_shape[-1] != 3:
        raise ValueError(f"{name} takes colour images, not {input_shape[-1]} channels")
    if None not in input_shape[:2]:
        options["input_shape"] = input_shape
    model = pretrained.imagenet(name, weights=weights, **options)
    return _with_levels(model, levels)


def maps(model):
    """The map of each level of a network: of its stride, the last one that everything behind it is computed from.

    Everything behind it: no branch goes around it. In a ResNet that is a stage's last sum; the maps inside the first
    block of the next stage, whose shortcut goes around them, do not count. In a MobileNetV2, whose strided blocks have
    no shortcut, it is the map that the next stage has already expanded (which SSDLite takes too: Sandler et al., CVPR
    2018, section 6.2). Padded maps and what comes before the first convolution do not count either. Each map divides
    the height of the one before by a power of two, borders apart.

    Args:
        model: functional keras.Model on images; of several outputs, the last one counts.

    Returns:
        dict of level -> `keras.KerasTensor` (B, H / 2^level, W / 2^level, C), rising.

    Raises:
        ValueError: the model is not functional, has several inputs, or gives no map.
    """
    (image, _), *trunk = graph.trunk(model)
    heights = [x.shape[1] for x, _ in trunk]
    height = image.shape[1]
    if None in image.shape[1:3]:
        height = SIDE
        one = keras.KerasTensor((1, SIDE, SIDE, image.shape[-1]))
        heights = [
            x.shape[1] for x in keras.tree.flatten(keras.Model(image, [x for x, _ in trunk]).compute_output_spec(one))
        ]
    level, convolved, found = 0, False, {}
    for (x, between), size in zip(trunk, heights):
        level += round(math.log2(height / size))
        height = size
        convolved = convolved or any(
            len(weight.shape) == 4 for layer in between for weight in getattr(layer, "weights", ())
        )
        if convolved and not isinstance(between[-1], layers.ZeroPadding2D):
            found[level] = x
    return dict(sorted(found.items()))


def preprocessed(image, name=None):
    """Pixels from 0 to 255 as an architecture of ours with ImageNet weights wants them; without a name, from -1 to 1.

    Args:
        image: (B, H, W, C) tensor.
        name: of `utils.architectures.names()`, or None for weights of no such origin.

    Returns:
        Tensor of the same shape.
    """
    application = None if name is None else architectures.describe(name).application
    # Keras's MobileNetV3 has this rescaling inside, and ours has none.
    if application is None or application.startswith("MobileNetV3"):
        return layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(image)
    return pretrained.preprocess(image, application)


def on_images(body, weights_of=None):
    """A network of ours behind its preprocessing, as `backbone` gives it.

    Args:
        body: keras.Model on preprocessed images, with an attribute `levels`.
        weights_of: name for `preprocessed`.

    Returns:
        keras.Model called "backbone".
    """
    image = layers.Input(body.input_shape[1:], name="image")
    model = keras.Model(image, body(preprocessed(image, weights_of)), name="backbone")
    model.levels = body.levels
    return model


def _takes_no(name, weights, options):
    if weights is not None:
        raise ValueError(f"backbone {name!r} has its weights: leave out weights={weights!r}")
    if options:
        raise ValueError(f"backbone {name!r} has no option {next(iter(options))!r}")


def _with_levels(model, levels, name="backbone"):
    found = maps(model)
    levels = list(found) if levels is None else list(levels)
    for level in levels:
        if level not in found:
            raise ValueError(f"{model.name} has no map of level {level} (levels: {', '.join(map(str, found))})")
    if not levels:
        raise ValueError(f"{model.name}: give at least one level of {', '.join(map(str, found))}")
    cut = keras.Model(model.inputs[0], [found[level] for level in levels], name=name)
    cut.levels = levels
    return cut


def _small(name, input_shape, levels):
    if name == "small":
        model = pretrained.backbone(input_shape)
        return _with_levels(model, levels)
    channels = pretrained.load(name).input_shape[-1]
    if channels == input_shape[-1]:
        model = pretrained.load(name, input_shape=input_shape)
        return _with_levels(model, levels)
    if (channels, input_shape[-1]) != (1, 3):
        raise ValueError(f"{name} takes images of {channels} channels, not {input_shape[-1]}")
    body = pretrained.load(name, input_shape=(*input_shape[:2], 1))
    body = _with_levels(body, levels, name)
    image = layers.Input(input_shape, name="image")
    luma = keras.initializers.Constant(np.reshape([0.299, 0.587, 0.114], (1, 1, 3, 1)))  # ITU-R BT.601
    grey = layers.Conv2D(1, 1, use_bias=False, kernel_initializer=luma, trainable=False, name="grey")(image)
    model = keras.Model(image, body(grey), name="backbone")
    model.levels = body.levels
    return model
