"""Augmentation: layers that change images at random and move masks, boxes and keypoints with them.

    augment = augmentation.augment("detection", seed=0)
    batches = augmentation.augmented(load("shapes", "train", batch_size=32), augment, seed=0)      # in `tf.data`
    model = keras.Sequential([augment, ...])                                           # in a model, of images

All take the dicts of `utils.data.load`, or images; see `Augmentation`. Geometry: `Flip`, `Affine` (rotation, scale,
shear, translation), `Crop`, and `Elastic` for images and masks.
Colour: `Brightness`, `Contrast`, `Saturation`, `Hue`, `HSVJitter`. Quality: `Noise`, `SaltAndPepper`, `Blur`, `Cutout`.
Weather: `Fog`, `Rain`,
`Snow`. Across a batch: `Mosaic`, `MixUp`, `CutMix`. Together: `Compose`, and the presets of `augment`.

Keras's own layers are not used here, for four reasons: none moves keypoints, instance masks and padding; `RandomCrop`
subtracts the row at which it cuts from the x of boxes and the column from their y (a test shows it); each interpolates
anew, where one map does for all; and in a parallel `tf.data` map their seeds depend on which call comes first.
"""

from utils.data.augmentation.appearance import (
    Blur,
    Brightness,
    Contrast,
    Cutout,
    HSVJitter,
    Hue,
    Noise,
    SaltAndPepper,
    Saturation,
)
from utils.data.augmentation.base import Augmentation, Compose, augmented
from utils.data.augmentation.geometry import Affine, Crop, Elastic, Flip
from utils.data.augmentation.mixing import CutMix, MixUp, Mosaic
from utils.data.augmentation.presets import PRESETS, augment
from utils.data.augmentation.weather import Fog, Rain, Snow

__all__ = [
    "PRESETS",
    "Affine",
    "Augmentation",
    "Blur",
    "Brightness",
    "Compose",
    "Contrast",
    "Crop",
    "CutMix",
    "Cutout",
    "Elastic",
    "Flip",
    "Fog",
    "HSVJitter",
    "Hue",
    "MixUp",
    "Mosaic",
    "Noise",
    "Rain",
    "SaltAndPepper",
    "Saturation",
    "Snow",
    "augment",
    "augmented",
]
