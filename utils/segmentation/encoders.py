"""What all families share: backbones that give maps of several strides from images as they come, and images of any size.

A net halves the image several times, so its inner maps come out whole only if height and width are multiples of its stride. Here
`padded` repeats the last row and column up to the next multiple, and `cropped` takes the surplus off the logits again.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from utils import architectures, pretrained


class WithoutProducts:
    """Padding, cutting, interpolation: no convolution and no matrix product, so that `utils.arithmetic` counts no MACs."""

    def macs(self, *input_shapes):
        return 0


@keras.saving.register_keras_serializable("convnets")
class PadToStride(WithoutProducts, layers.Layer):
    """Repeats the last row and column until height and width are multiples of `stride`: (B, H, W, C) -> (B, H', W', C).

    On the far sides only, so that the grid of strides begins at the image's corner, as in training. Nothing is done where it fits already.

    Args:
        stride: int.
    """

    def __init__(self, stride, **options):
        super().__init__(**options)
        self.stride = stride

    def call(self, x):
        for axis in (1, 2):
            if x.shape[axis] is None or x.shape[axis] % self.stride:
                size = ops.shape(x)[axis]
                places = ops.arange(-(-size // self.stride) * self.stride)
                x = ops.take(x, ops.minimum(places, size - 1), axis=axis)
        return x

    def compute_output_spec(self, x):
        sizes = [n if n is None else -(-n // self.stride) * self.stride for n in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sizes, x.shape[3]), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"stride": self.stride}


@keras.saving.register_keras_serializable("convnets")
class CropLike(WithoutProducts, layers.Layer):
    """Cuts a map to the height and width of another: (B, H, W, C), (B, h, w, ...) -> (B, h, w, C), h <= H, w <= W.

    Args:
        centred: whether the same is cut from all sides (U-Net's crop; the odd one below and right), or all of it below and right.
    """

    def __init__(self, centred=False, **options):
        super().__init__(**options)
        self.centred = centred

    def call(self, x, like):
        (height, width), (h, w) = ops.shape(x)[1:3], ops.shape(like)[1:3]
        top, left = ((height - h) // 2, (width - w) // 2) if self.centred else (0, 0)
        return x[:, top : top + h, left : left + w]

    def compute_output_spec(self, x, like):
        for n, size in zip(x.shape[1:3], like.shape[1:3]):
            if None not in (n, size) and size > n:
                raise ValueError(f"a map of {x.shape[1:3]} cannot be cut to {like.shape[1:3]}")
        return keras.KerasTensor((x.shape[0], *like.shape[1:3], x.shape[3]), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"centred": self.centred}


@keras.saving.register_keras_serializable("convnets")
class Enlarge(WithoutProducts, layers.Layer):
    """Bilinear interpolation to `factor` times the height and width: (B, H, W, C) -> (B, fH, fW, C).

    The same values as `keras.layers.UpSampling2D(factor, interpolation="bilinear")`, which on TensorFlow refuses images of unknown size.

    Args:
        factor: int of at least 1.
    """

    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        if None not in x.shape[1:3]:
            size = [n * self.factor for n in x.shape[1:3]]
            return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")
        # Keras's resize takes no size that is known at run time only. This costs five times as much.
        for axis in (1, 2):
            x = self._along(x, axis)
        return x

    def _along(self, x, axis):
        size = ops.shape(x)[axis]
        first, last = ((slice(None),) * axis + (place,) for place in (slice(0, 1), slice(size - 1, None)))
        inner = (slice(None),) * axis
        before = ops.concatenate([x[first], x[(*inner, slice(0, size - 1))]], axis=axis)
        after = ops.concatenate([x[(*inner, slice(1, None))], x[last]], axis=axis)
        # The f new pixels of each old one lie at (j + 1/2) / f - 1/2 from its centre, between it and a neighbour.
        phases = []
        for j in range(self.factor):
            away = (j + 0.5) / self.factor - 0.5
            phases.append((1 - abs(away)) * x + abs(away) * (before if away < 0 else after))
        shape = list(ops.shape(x))
        shape[axis] = size * self.factor
        return ops.reshape(ops.stack(phases, axis=axis + 1), shape)

    def compute_output_spec(self, x):
        sizes = [n if n is None else n * self.factor for n in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sizes, x.shape[3]), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


def padded(image, stride, name="pad"):
    """The image, padded to multiples of the stride where it may be necessary."""
    if all(n is not None and n % stride == 0 for n in image.shape[1:3]):
        return image
    return PadToStride(stride, name=name)(image)


def cropped(logits, image, name="crop"):
    """The logits, without what `padded` has added."""
    if logits.shape[1:3] == image.shape[1:3] and None not in image.shape[1:3]:
        return logits
    return CropLike(name=name)(logits, image)


def encoder(backbone, input_shape, levels=None, weights=None, pools=False, **options):
    """A backbone that takes images as they come and gives a map for each level; level l has a stride of 2^l pixels.

    Args:
        backbone: one of
            - "small": `utils.pretrained.backbone` with random weights, or a name of `utils.pretrained.names()`, the same with trained ones
              (levels 0 to 2; colour images are turned to grey if the weights are for grey ones);
            - a name of `utils.architectures.names()`: random weights, or weights="imagenet" where Keras has them;
            - a class of `keras.applications`, such as "MobileNetV2": ImageNet weights, or weights="random";
            - a functional keras.Model on images (B, H, W, C), 0 to 255.
        input_shape: (height, width, channels); height and width None for any size.
        levels: sequence of ints; None: all that the backbone has.
        weights: None: ImageNet weights for a class of `keras.applications`, random ones for a name of `utils.architectures`.
        pools: of VGG: whether a level's map is that of the pool which leads to it, as FCN takes them, in the place of the last convolution's.
        **options: further arguments of the architecture, such as `width` or `alpha`.

    Returns:
        keras.Model called "encoder" on images (B, H, W, C), uint8 or float, 0 to 255, preprocessing included; its outputs are a list of maps
        (B, H / 2^l, W / 2^l, C_l), one per level. A model without `levels` has the attribute `levels` too: a list of ints.

    Raises:
        ValueError: an unknown backbone, a level that it does not have, or channels that do not fit.
        DataUnavailable: ImageNet weights that are not at hand.
    """
    if isinstance(backbone, keras.Model):
        image, maps = backbone.inputs[0], _last_of_each_stride(backbone)
    elif backbone == "small" or backbone in pretrained.names():
        image, maps = _small(backbone, input_shape)
    elif backbone in architectures.names():
        return _of_architecture(backbone, input_shape, levels, weights, pools, options)
    elif hasattr(keras.applications, str(backbone)):
        options = options | ({} if None in input_shape[:2] else {"input_shape": tuple(input_shape)})
        if input_shape[-1] != 3:
            raise ValueError(f"{backbone} takes colour images, not {input_shape[-1]} channels")
        model = pretrained.imagenet(backbone, weights=None if weights == "random" else "imagenet", **options)
        image, maps = model.inputs[0], _last_of_each_stride(model)
    else:
        raise ValueError(
            f"no backbone {backbone!r}: give 'small', one of {', '.join(pretrained.names())}, a name of "
            "utils.architectures.names(), a class of keras.applications such as 'MobileNetV2', or a keras.Model"
        )
    return _with_levels(image, maps, levels, getattr(backbone, "name", backbone))


def _with_levels(image, maps, levels, name):
    levels = sorted(maps) if levels is None else list(levels)
    for level in levels:
        if level not in maps:
            raise ValueError(f"{name} has no map of level {level} (levels: {', '.join(map(str, sorted(maps)))})")
    model = keras.Model(image, [maps[level] for level in levels], name="encoder")
    model.levels = levels
    return model


def _small(name, input_shape):
    """(image, dict of level -> map)."""
    if name == "small":
        model = pretrained.backbone(tuple(input_shape))
        return model.inputs[0], _last_of_each_stride(model)
    channels = pretrained.load(name).input_shape[-1]
    if channels == input_shape[-1]:
        model = pretrained.load(name, input_shape=tuple(input_shape))
        return model.inputs[0], _last_of_each_stride(model)
    if (channels, input_shape[-1]) != (1, 3):
        raise ValueError(f"{name} takes images of {channels} channels, not {input_shape[-1]}")
    body = pretrained.load(name)
    maps = _last_of_each_stride(body)
    image = layers.Input(input_shape, name="image")
    luma = keras.initializers.Constant(np.reshape([0.299, 0.587, 0.114], (1, 1, 3, 1)))  # ITU-R BT.601
    grey = layers.Conv2D(1, 1, use_bias=False, kernel_initializer=luma, trainable=False, name="grey")(image)
    found = keras.Model(body.inputs[0], list(maps.values()), name=name)(grey)
    return image, dict(zip(maps, found))


def _of_architecture(name, input_shape, levels, weights, pools, options):
    """A network of ours behind the preprocessing that its weights want."""
    body = architectures.build(
        name, tuple(input_shape), include_top=False, weights=None if weights == "random" else weights, **options
    )
    levels = _levels_of(body) if levels is None else list(levels)
    image = layers.Input(input_shape, name="image")
    if pools:
        body = keras.Model(body.input, [body.get_layer(f"pool{level}").output for level in levels], name=name)
    else:
        body = architectures.features(body, levels)
    maps = body(preprocessed(image, name if weights == "imagenet" else None))
    model = keras.Model(image, maps if isinstance(maps, list) else [maps], name="encoder")
    model.levels = levels
    return model


def _levels_of(body):
    levels = []
    for level in range(8):
        try:
            architectures.features(body, [level])
        except ValueError:
            continue
        levels.append(level)
    return levels


def preprocessed(image, name=None):
    """Pixels from 0 to 255 as an architecture of ours with ImageNet weights wants them; without a name, from -1 to 1."""
    application = None if name is None else architectures.describe(name).application
    if application is None or application.startswith("MobileNetV3"):  # ours has no preprocessing inside
        return layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(image)
    return pretrained.preprocess(image, application)


def _last_of_each_stride(model):
    """dict of level -> the last map of that stride that is no mere padding. The maps come from the layers' own outputs."""
    found = [
        layer.output
        for layer in model.layers
        if isinstance(layer.output, keras.KerasTensor)
        and len(layer.output.shape) == 4
        and not isinstance(layer, (layers.ZeroPadding2D, layers.InputLayer, layers.Rescaling))
    ]
    side = model.inputs[0].shape[1]
    heights = [x.shape[1] for x in found]
    if side is None:
        side = 512
        image = keras.KerasTensor((1, side, side, model.inputs[0].shape[-1]))
        heights = [spec.shape[1] for spec in keras.Model(model.inputs[0], found).compute_output_spec(image)]
    return {round(math.log2(side / height)): x for x, height in zip(found, heights)}
