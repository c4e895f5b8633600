"""Pascal VOC 2012, the task of segmentation: 2,913 photographs with a class for every pixel."""

import io
import tarfile

import numpy as np

VERSION = "1.0.0"
NAMES = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
CLASSES = tuple(NAMES.split())
SPLITS = {"train": 1318, "validation": 146, "test": 1449}
LISTS = {"train": "train", "validation": "train", "test": "val"}  # nobody has the truth of the challenge's test images
TENTH = 10  # every tenth photograph of the challenge's train is validation here: its list runs through the years
ROOT = "VOCdevkit/VOC2012"


def photographs(path, split):
    """The photographs of a split in the archive.

    Args:
        path: of the archive as the challenge gives it, with `ImageSets/Segmentation/<list>.txt`, `JPEGImages/<name>.jpg` and
            `SegmentationClass/<name>.png`, whose palette numbers are 0 background, 1 to 20 the classes, 255 void.
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
