"""Real images that the packages carry: scikit-learn's digits, scikit-image's faces, textures and photographs."""

import functools

import numpy as np

from utils.data.description import Description
from utils.data.sources import InMemory, OneByOne, stratified


def digits():
    """Handwritten digits of scikit-learn: 8 x 8 grey, 0 is paper and 255 is ink."""
    description = Description(
        name="digits",
        title="Handwritten digits",
        classes=tuple("0123456789"),
        splits={"train": 1000, "validation": 300, "test": 497},
        image_shape=(8, 8, 1),
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
        source="sklearn.datasets.load_digits",
        note="Each class gives 100 images to train, 30 to validation and the rest (44 to 53) to test. Thirteen people wrote all of it and "
        "nobody recorded who wrote what, so a score on test says nothing about a hand that was not seen in training.",
    )
    return InMemory(description, _digit_splits)


def _digit_splits():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    parts = stratified(labels, {"train": 100, "validation": 30, "test": None}, seed=0)
    return {split: (images[positions], labels[positions]) for split, positions in parts.items()}


def faces():
    """Faces and other pieces of press photographs, from scikit-image: 25 x 25 grey."""
    description = Description(
        name="faces",
        title="Faces and other pieces of press photographs",
        classes=("face", "other"),
        splits={"train": 120, "validation": 40, "test": 40},
        image_shape=(25, 25, 1),
        licence="not stated (press photographs of Labeled Faces in the Wild, carried by scikit-image)",
        citation="G. Huang, M. Mattar, H. Lee, E. Learned-Miller, Learning to Align from Scratch, NIPS 2012; lfw_subset of scikit-image",
        source="skimage.data.lfw_subset",
        note="100 of each class, 60 / 20 / 20. Cropped by a machine: six in ten of the others have more than a tenth of their pixels black, "
        "where the crop went over the edge, and no face has. A high score is easier than it looks. Some of the others show part of a face.",
    )
    return InMemory(description, _face_splits)


def _face_splits():
    from skimage.data import lfw_subset

    images = np.rint(lfw_subset() * 255).astype(np.uint8)[..., None]
    labels = np.repeat(np.arange(2, dtype=np.int32), 100)
    parts = stratified(labels, {"train": 60, "validation": 20, "test": None}, seed=0)
    return {split: (images[positions], labels[positions]) for split, positions in parts.items()}


TEXTURES = ("brick", "grass", "gravel")
REGIONS = {"train": (0, 320), "validation": (320, 416), "test": (416, 512)}  # columns of the photographs, 512 x 512
CROPS = {"train": 200, "validation": 50, "test": 50}  # a class
SIDES = (16, 24, 32, 48, 64)


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
        note="One photograph a class. The splits are cut from different columns of it and share no pixel; crops of one split overlap each "
        "other. All crops of a class are of one wall, one lawn, one heap: a score says nothing about other walls.",
        variants=tuple(f"textures/{other}" for other in SIDES),
    )
    return InMemory(description, functools.partial(_texture_splits, side))


def _texture_splits(side):
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


PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass"),
    *("gravel", "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon"),
    *("page", "retina", "rocket", "text"),
)


def skimage_photos():
    """The photographs that scikit-image carries, each a class of its own: RGB, of different sizes."""
    description = Description(
        name="skimage_photos",
        title="Eighteen photographs to try things on",
        classes=PHOTOGRAPHS,
        splits={"all": len(PHOTOGRAPHS)},
        image_shape=(None, None, 3),
        licence="CC0 1.0 or public domain, or without known copyright restrictions: see each function's page in scikit-image",
        citation="S. van der Walt et al., scikit-image: image processing in Python, PeerJ 2:e453, 2014",
        source="skimage.data",
        note="The label is the number of the photograph. The sides are 102 to 1,411 pixels. Eleven are grey and come with three equal channels.",
    )
    return OneByOne(description, ("label",), _photograph, lambda split: np.arange(len(PHOTOGRAPHS), dtype=np.int32))


def _photograph(split, index):
    import skimage.data

    image = getattr(skimage.data, PHOTOGRAPHS[index])()
    image = np.stack([image] * 3, axis=-1) if image.ndim == 2 else image
    return {"image": image, "label": np.int32(index)}
