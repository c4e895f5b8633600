"""Photographs of clothes: ten classes, 1,365 pictures whose short side has 128 pixels."""

import zipfile

from utils.data import archives
from utils.data.catalogue import register
from utils.data.prepared import Prepared, Recipe, from_archive

VERSION = "1.0.0"
CLASSES = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
SPLITS = {"train": 1000, "validation": 186, "test": 179}


def photographs(path, split):
    """The photographs of a split in the archive.

    Args:
        path: of the archive, which holds `clothing_small/<split>/<class>/<name>.jpg`.
        split: "train", "validation" or "test".

    Yields:
        (name in the archive, bytes of a JPEG, class).
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            _, *folders, file = name.split("/")
            if len(folders) == 2 and folders[0] == split and file:
                yield name, archive.read(name), folders[1]


def features(tfds):
    """The features of an example, as TensorFlow Datasets keeps it."""
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=CLASSES),
    }


def examples(split):
    """(key, features) of each example of a split."""
    for name, image, label in photographs(archives.locate("clothing"), split):
        yield name, {"image": image, "label": label}


RECIPE = Recipe("clothing", VERSION, __doc__, tuple(SPLITS), features, examples, archives.ARCHIVES["clothing"].citation)


@register("clothing")
def clothing():
    """Photographs of clothes: about 128 x 170, RGB."""
    description = from_archive(
        "clothing",
        "a part of github.com/alexeygrigorev/clothing-dataset-small at short side 128",
        title="Photographs of clothes",
        classes=CLASSES,
        splits=SPLITS,
        image_shape=(None, None, 3),
        note="The labels are the contributors' and not always right: some shirts, longsleeves and t-shirts could be "
        "either.",
    )
    return Prepared(description, RECIPE)
