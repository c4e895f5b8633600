"""Sets of augmentations that go well together."""

from utils.data.augmentation.appearance import Blur, Brightness, Contrast, Cutout, HSVJitter, Noise, Saturation
from utils.data.augmentation.base import Compose
from utils.data.augmentation.geometry import Affine, Flip
from utils.data.augmentation.mixing import Mosaic
from utils.data.augmentation.weather import Fog, Rain, Snow

PRESETS = {
    "light": lambda: [Flip(0.5), Affine(rotation=5, scale=0.1, translation=0.05), Brightness(0.1), Contrast(0.1)],
    "strong": lambda: [
        Flip(0.5),
        Affine(rotation=20, scale=0.3, translation=0.1, shear=8),
        HSVJitter(0.05, 0.5, 0.3),
        Contrast(0.3),
        Noise(0.06, probability=0.3),
        Blur(1.0, probability=0.2),
        Cutout(0.3, probability=0.5),
    ],
    "detection": lambda: [Flip(0.5), Affine(rotation=3, scale=0.4, translation=0.1), HSVJitter(0.015, 0.6, 0.35)],
    "mosaic": lambda: [
        Mosaic(probability=0.5),
        Flip(0.5),
        Affine(rotation=3, scale=0.3, translation=0.1),
        HSVJitter(0.015, 0.6, 0.35),
    ],
    "weather": lambda: [
        Flip(0.5),
        Brightness(0.15),
        Saturation(0.3),
        Fog(0.7, probability=0.25),
        Rain(0.8, probability=0.25),
        Snow(0.8, probability=0.25),
    ],
}


def augment(preset="light", seed=None, **options):
    """A preset as one layer.

    Args:
        preset: "light" for what leaves an object what it is almost anywhere; "strong" for little data; "detection" with
            small turns, so that boxes stay tight, and wide scales; "mosaic", that and four images in one, for batches;
            "weather". Or a list of layers.
        seed: int, or None for another one in each process.
        options: as for `Compose`.

    Returns:
        `Compose`.

    Raises:
        ValueError: unknown preset.
    """
    if isinstance(preset, str) and preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: known: {', '.join(PRESETS)}, or a list of layers")
    return Compose(PRESETS[preset]() if isinstance(preset, str) else preset, seed=seed, **options)
