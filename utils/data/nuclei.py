"""Cell nuclei in fluorescence: 150 pictures of 256 x 256 with a mask of each nucleus."""

import io
import zipfile

import numpy as np

VERSION = "1.0.0"
CLASSES = ("nucleus",)
SPLITS = {"train": 100, "validation": 20, "test": 30}
SHAPE = (256, 256, 3)
MOST = 92  # nuclei in one picture
FOLDERS = {"train": "train", "validation": "val", "test": "test"}  # as the archive has them


def pictures(path, split):
    """The pictures of a split in the archive.

    Args:
        path: of the archive, which holds `nuclei/images/<folder>/<name>.png` and `nuclei/masks/<folder>/<name>.png`, 16 bits: 0 background,
            1 to N the nuclei.
        split: "train", "validation" or "test".

    Yields:
        (file name, bytes of a PNG, bytes of the PNG of its nuclei, boxes (N, 4) float32 xyxy pixels, nucleus after nucleus).
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
