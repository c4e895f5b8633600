"""Pascal VOC 2012, the task of segmentation: 2,913 photographs with a class for every pixel."""

import io
import tarfile

import numpy as np

from utils.data import archives
from utils.data.catalogue import register
from utils.data.prepared import Prepared, Recipe, from_archive

VERSION = "1.0.0"
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
SPLITS = {"train": 1318, "validation": 146, "test": 1449}
LISTS = {"train": "train", "validation": "train", "test": "val"}  # nobody has the truth of the challenge's test images
TENTH = 10  # every tenth photograph of the challenge's train is validation here: its list runs through the years
ROOT = "VOCdevkit/VOC2012"


def photographs(path, split):
    """The photographs of a split in the archive.

    Args:
        path: of the archive as the challenge gives it, with `ImageSets/Segmentation/<list>.txt`,
            `JPEGImages/<name>.jpg` and `SegmentationClass/<name>.png`, whose palette numbers are 0 background, 1 to 20
            the classes, 255 void.
        split: "train", "validation" or "test".

    Yields:
        (name, bytes of a JPEG, mask (H, W, 1) uint8).
    """
    from PIL import Image

    with tarfile.open(path) as archive:

        def read(name):
            return archive.extractfile(f"{ROOT}/{name}").read()

        listed = read(f"ImageSets/Segmentation/{LISTS[split]}.txt").decode().split()
        if split == "validation":
            listed = listed[TENTH - 1 :: TENTH]
        elif split == "train":
            del listed[TENTH - 1 :: TENTH]
        for name in listed:
            mask = np.asarray(Image.open(io.BytesIO(read(f"SegmentationClass/{name}.png"))))
            yield name, read(f"JPEGImages/{name}.jpg"), mask[..., None]


def features(tfds):
    """The features of an example, as TensorFlow Datasets keeps it."""
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
    }


def examples(split):
    """(key, features) of each example of a split."""
    for name, image, mask in photographs(archives.locate("voc_segmentation"), split):
        yield name, {"image": image, "mask": mask}


RECIPE = Recipe(
    "voc_segmentation",
    VERSION,
    __doc__,
    tuple(SPLITS),
    features,
    examples,
    archives.ARCHIVES["voc_segmentation"].citation,
)


class Masked(Prepared):
    """A record has its mask as a picture of one channel."""

    pictures = ("image", "mask")

    def decode(self, record):
        return {"image": self.picture(record), "mask": self.picture(record, "mask")[..., 0]}


@register("voc_segmentation")
def voc_segmentation():
    """Pascal VOC 2012's photographs with a mask: about 500 x 375, RGB."""
    description = from_archive(
        "voc_segmentation",
        "of its photographs the 2,913 that have a mask",
        title="Pascal VOC 2012: photographs with a class for every pixel",
        classes=CLASSES,
        splits=SPLITS,
        image_shape=(None, None, 3),
        note="Outlines and what nobody could name are void, 255. Nobody has the truth of the challenge's test images: "
        "test is its validation split, "
        "validation every tenth of its train. The archive, 2 GB, stays among the downloads.",
        targets=("mask",),
        mask_classes=("background", *CLASSES),
    )
    return Masked(description, RECIPE)
