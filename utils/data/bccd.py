"""Blood cells under a microscope: 364 pictures of 320 x 240 with a box around each red cell, white cell and platelet."""

import json
import zipfile

import numpy as np

from utils.boxes import convert

VERSION = "1.0.0"
CLASSES = ("RBC", "WBC", "Platelets")
SPLITS = {"train": 205, "validation": 87, "test": 72}
SHAPE = (240, 320, 3)
MOST = 30  # boxes in one picture
FOLDERS = {"train": "train", "validation": "val", "test": "test"}  # as the archive has them


def pictures(path, split):
    """The pictures of a split in the archive.

    Args:
        path: of the archive, which holds `bccd/images/<folder>/<name>.jpg` and `bccd/annotations/<folder>.json` in COCO's form.
        split: "train", "validation" or "test".

    Yields:
        (file name, bytes of a JPEG, boxes (N, 4) float32 xyxy pixels, names of the N classes).
    """
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
