"""Blood cells under a microscope: 364 pictures of 320 x 240 with a box around each cell and platelet."""

import json
import zipfile

import numpy as np

from utils.data import archives
from utils.data.catalogue import register
from utils.data.prepared import Prepared, Recipe, from_archive

VERSION = "1.0.0"
CLASSES = ("RBC", "WBC", "Platelets")
SPLITS = {"train": 205, "validation": 87, "test": 72}
SHAPE = (240, 320, 3)
MOST = 30  # boxes in one picture
FOLDERS = {"train": "train", "validation": "val", "test": "test"}  # as the archive has them


def pictures(path, split):
    """The pictures of a split in the archive.

    Args:
        path: of the archive, which holds `bccd/images/<folder>/<name>.jpg` and `bccd/annotations/<folder>.json` in
            COCO's form.
        split: "train", "validation" or "test".

    Yields:
        (file name, bytes of a JPEG, boxes (N, 4) float32 xyxy pixels, names of the N classes).
    """
    from utils.boxes import convert  # imports Keras, which most of utils.data does without

    with zipfile.ZipFile(path) as archive:
        folder = FOLDERS[split]
        table = json.loads(archive.read(f"bccd/annotations/{folder}.json"))
        names = {category["id"]: category["name"] for category in table["categories"]}
        objects = {image["id"]: [] for image in table["images"]}
        for annotation in table["annotations"]:
            objects[annotation["image_id"]].append(annotation)
        for image in table["images"]:
            found = objects[image["id"]]
            boxes = np.array([annotation["bbox"] for annotation in found], np.float32).reshape(-1, 4)
            boxes = convert(boxes, "xywh", "xyxy")
            content = archive.read(f"bccd/images/{folder}/{image['file_name']}")
            yield image["file_name"], content, boxes, [names[annotation["category_id"]] for annotation in found]


def features(tfds):
    """The features of an example, as TensorFlow Datasets keeps it."""
    return {
        "image": tfds.features.Image(shape=SHAPE, encoding_format="jpeg"),
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=CLASSES)),
    }


def examples(split):
    """(key, features) of each example of a split. Boxes stay in pixels: halves of pixels would suffer as shares of the
    image.
    """
    for name, image, boxes, labels in pictures(archives.locate("bccd"), split):
        yield name, {"image": image, "boxes": boxes, "labels": labels}


RECIPE = Recipe("bccd", VERSION, __doc__, tuple(SPLITS), features, examples, archives.ARCHIVES["bccd"].citation)


@register("bccd")
def bccd():
    """Blood cells with boxes: 320 x 240, RGB."""
    description = from_archive(
        "bccd",
        "github.com/Shenggan/BCCD_Dataset at half its size, split as there",
        title="Blood cells under a microscope, with boxes",
        classes=CLASSES,
        splits=SPLITS,
        image_shape=SHAPE,
        note="RBC are red blood cells, WBC white ones. Classes are very unequal: 4,153 boxes of RBC, 372 of WBC, 361 "
        "of Platelets. Red cells at "
        "the border and in clumps do not all have a box, so a detector that finds them loses precision for it. Two "
        "boxes without area, in "
        "BloodImage_00338 and 00343, were left out when the archive was made.",
        targets=("boxes", "labels"),
        max_objects=MOST,
    )
    return Prepared(description, RECIPE)
