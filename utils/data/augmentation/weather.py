"""Fog, rain and snow. They hide and veil, and move nothing. Made from random numbers alone, at a scale that follows the
image's size.
"""

import keras

from utils.data.augmentation.appearance import Appearance, gaussian, luma
from utils.data.augmentation.base import PACKAGE
from utils.data.augmentation.geometry import pull

DETAIL = 220  # rows at which drops and flakes are drawn; larger images get larger ones
SKY = (226.0, 231.0, 236.0)  # the colour of fog and of a sky that snows


@keras.saving.register_keras_serializable(PACKAGE)
class Fog(Appearance):
    """Banks of fog, thicker towards the top, where a scene is mostly farther away; `amount` is how much of the light
    they take at most.
    """

    def change(self, image, t, random):
        count, height, width = t.shape(image)[:3]
        banks, total = 0.0, 0.0
        for cells, weight in ((2, 1.0), (4, 0.7), (8, 0.4), (16, 0.2), (32, 0.08)):
            rough = random.uniform((count, cells + 1, 2 * cells + 1, 1))
            banks = banks + weight * t.image.resize(rough, (height, width), interpolation="bicubic")
            total += weight
        banks = t.clip((banks / total - 0.5) * 2.2 + 0.5, 0.0, 1.0)
        far = 1.0 - t.cast(t.arange(height), "float32")[None, :, None, None] / t.cast(height, "float32")
        opacity = self.draw(image, t, random, low=0.7) * (0.55 + 0.45 * banks) * (0.75 + 0.25 * far)
        return veil(image, colour(SKY, image, t), opacity)


@keras.saving.register_keras_serializable(PACKAGE)
class Rain(Appearance):
    """Slanting streaks, far ones fine and near ones long, over an image that loses light and colour; `amount` is how
    heavy at most.
    """

    def change(self, image, t, random):
        count = t.shape(image)[0]
        heavy = self.draw(image, t, random, low=0.6)
        slant = random.uniform((count,), -0.3, 0.3)
        streaks = 0.0
        for rows, share, length, bright in ((DETAIL, 0.012, 13, 0.42), (0.62 * DETAIL, 0.006, 19, 0.62)):
            streaks = streaks + bright * falling(image, t, random, rows, share * heavy, slant, length)
        grey = luma(image)
        dull = grey + (image - grey) * (1 - 0.35 * heavy)
        dull = veil(dull * (1 - 0.22 * heavy), colour((150.0, 158.0, 166.0), image, t), 0.2 * heavy)
        return veil(dull, colour((236.0, 240.0, 244.0), image, t), t.clip(streaks, 0.0, 0.85))


@keras.saving.register_keras_serializable(PACKAGE)
class Snow(Appearance):
    """Flakes in three sizes, far ones small and many, near ones large and soft, in a pale light; `amount` is how heavy
    at most.
    """

    def change(self, image, t, random):
        heavy = self.draw(image, t, random, low=0.6)
        slant = random.uniform((t.shape(image)[0],), -0.5, 0.5)
        grey = luma(image)
        pale = grey + (image - grey) * (1 - 0.3 * heavy)
        pale = veil(pale, colour(SKY, image, t), 0.28 * heavy)
        for rows, share, size, bright in (
            (DETAIL, 0.018, 0.55, 0.7),
            (0.7 * DETAIL, 0.006, 0.8, 0.95),
            (0.45 * DETAIL, 0.0016, 1.15, 0.9),
        ):
            flakes = falling(image, t, random, rows, share * heavy, slant, 0, size)
            pale = veil(pale, colour((252.0, 253.0, 255.0), image, t), bright * flakes)
        return pale


def falling(image, t, random, rows, share, slant, length=0, size=0.0):
    """Opacity (B, H, W, 1) in 0..1 of a layer of drops or flakes.

    Args:
        image: (B, H, W, C), for its size.
        rows: at how many rows the layer is drawn, at most those of the image.
        share: (B, 1, 1, 1): share of its pixels where one starts.
        slant: (B,) pixels to the side for each pixel down.
        length: of streaks, in rows; 0 for flakes.
        size: standard deviation of flakes, in rows; 0 for streaks.
    """
    count, height, width = t.shape(image)[:3]
    # The layer has the image's own grid where the image is small or of unknown size, else a coarser one that is
    # enlarged afterwards.
    known = image.shape[1] is not None and image.shape[2] is not None
    factor = max(image.shape[1] / rows, 1.0) if known else 1.0
    h, w = (max(round(side / factor), 4) for side in image.shape[1:3]) if known else (height, width)
    starts = random.uniform((count, h, w, 1))
    points = t.cast(starts < share, "float32") * (0.45 + 0.55 * random.uniform((count, h, w, 1)))
    if length:
        framed = t.pad(points, ((0, 0), (length - 1, 0), (0, 0), (0, 0)), mode="reflect")
        layer = 0.0
        for step in range(length):  # brightest at its lower end
            layer = t.maximum(layer, framed[:, step : step + h] * ((step + 1) / length))
    else:
        # A flake's middle keeps its strength: on a grid a Gaussian of this size sums to about its integral.
        layer = t.clip(gaussian(points, t, size, size) * (1.0 + 2 * 3.1416 * size**2) * 0.9, 0.0, 1.0)
    one, zero = t.ones_like(slant), t.zeros_like(slant)
    back = t.stack([one, slant, -slant * (t.cast(h, "float32") / 2), zero, one, zero], axis=1)
    layer = pull(t, layer, back, (h, w), 0.0, "reflect", "bilinear")
    return layer if factor == 1.0 else t.image.resize(layer, (height, width), interpolation="bicubic")


def veil(image, shade, opacity):
    """An image behind a colour of some opacity."""
    return image + (shade - image) * opacity


def colour(rgb, image, t):
    """A colour that fits an image's channels."""
    if image.shape[-1] == 1:
        return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    return t.convert_to_tensor(rgb, "float32")
