"""Crops of three photographs that scikit-image carries: brick, grass and gravel."""

import functools

import numpy as np

from utils.data.catalogue import register
from utils.data.description import Description
from utils.data.sources import InMemory

TEXTURES = ("brick", "grass", "gravel")
REGIONS = {"train": (0, 320), "validation": (320, 416), "test": (416, 512)}  # columns of the photographs, 512 x 512
CROPS = {"train": 200, "validation": 50, "test": 50}  # a class
SIDES = (16, 24, 32, 48, 64)


@register("textures")
def textures(side="32"):
    """Square crops of three photographs of scikit-image: grey."""
    side = int(side)
    description = Description(
        name="textures" if side == 32 else f"textures/{side}",
        title="Crops of brick, grass and gravel",
        classes=TEXTURES,
        splits={split: len(TEXTURES) * count for split, count in CROPS.items()},
        image_shape=(side, side, 1),
        licence="CC0 1.0",
        citation="photographs from CC0Textures (brick, gravel) and by linolafett (grass), in scikit-image",
        source="skimage.data.brick, grass, gravel",
        note="One photograph a class. The splits are cut from different columns of it and share no pixel; crops of one "
        "split overlap each "
        "other. All crops of a class are of one wall, one lawn, one heap: a score says nothing about other walls.",
        variants=tuple(f"textures/{other}" for other in SIDES),
    )
    return InMemory(description, functools.partial(_splits, side))


def _splits(side):
    import skimage.data

    photographs = [getattr(skimage.data, name)() for name in TEXTURES]
    random = np.random.RandomState(0)
    splits = {}
    for split, (left, right) in REGIONS.items():
        labels = np.tile(np.arange(len(TEXTURES), dtype=np.int32), CROPS[split])
        rows = random.randint(0, 512 - side + 1, len(labels))
        columns = random.randint(left, right - side + 1, len(labels))
        images = [photographs[label][y : y + side, x : x + side] for label, y, x in zip(labels, rows, columns)]
        splits[split] = np.stack(images)[..., None], labels
    return splits
