"""Maps of another size: padding to a multiple of the stride, cutting, enlarging, spreading one value.

A net halves the image several times, so its inner maps come out whole only if height and width are multiples of its
stride. `padded` repeats the last row and column up to the next multiple, and `cropped` takes the surplus off the result
again.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("convnets")
class PadToStride(keras.layers.Layer):
    """Repeats the last row and column until height and width are multiples of `stride`: (B, H, W, C) -> (B, H', W', C).

    On the far sides only, so that the grid of strides begins at the image's corner, as in training. Nothing is done
    where it fits already.

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
class CropLike(keras.layers.Layer):
    """Cuts a map to the height and width of another: (B, H, W, C), (B, h, w, ...) -> (B, h, w, C), h <= H, w <= W.

    Args:
        centred: whether the same is cut from all sides (U-Net's crop; the odd one below and right), or all of it below
            and right.
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
class Enlarge(keras.layers.Layer):
    """Bilinear interpolation to `factor` times the height and width: (B, H, W, C) -> (B, fH, fW, C).

    The same values as `keras.layers.UpSampling2D(factor, interpolation="bilinear")`, which on TensorFlow refuses images
    of unknown size.

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


@keras.saving.register_keras_serializable("convnets")
class Spread(keras.layers.Layer):
    """One value per channel, everywhere: (B, 1, 1, C) and a map (B, H, W, any) -> (B, H, W, C)."""

    def call(self, x, like):
        return x + ops.zeros_like(like[..., :1])

    def compute_output_spec(self, x, like):
        return keras.KerasTensor((x.shape[0], *like.shape[1:3], x.shape[3]), self.compute_dtype)


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
