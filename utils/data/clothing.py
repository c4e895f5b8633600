"""Photographs of clothes: ten classes, 1,365 pictures whose short side has 128 pixels."""

import zipfile

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
