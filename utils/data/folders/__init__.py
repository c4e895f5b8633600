"""Anyone's pictures: a folder in one of four layouts, told apart by what is there.

    one subfolder per class                   label                            utils.data.folders.classes
    `images` and `masks`                      mask                             utils.data.folders.pairs
    an annotation file in COCO's form         boxes, labels, often masks       utils.data.folders.coco
    xml files in Pascal VOC's form            boxes, labels                    utils.data.folders.voc

Every picture and every annotation is looked at once when the folder is opened, so that what cannot be used is told at
once, by name and count, not in the middle of training. JPEG, PNG, BMP, GIF (its first frame) and WebP are read.
Pictures are turned upright as their EXIF data says (unless their annotations were made for them as they are stored),
what is transparent is laid on white, 16 bits become 8.
"""

import os
import pathlib

from utils.data.folders import coco as _coco
from utils.data.folders import pairs as _pairs
from utils.data.folders import voc as _voc
from utils.data.folders.classes import classes
from utils.data.folders.common import checked_on_error


def folder(path, on_error="raise"):
    """The source of the pictures in a folder.

    Args:
        path: the folder.
        on_error: "raise" for an error that lists what cannot be used, "skip" for a warning that lists it and a source
            of what remains.

    Returns:
        a source, as `utils.data.sources` has it.

    Raises:
        ValueError: the folder has none of the layouts, or more than one; something in it cannot be used and `on_error`
            is "raise".
    """
    checked_on_error(on_error)
    root = pathlib.Path(path).expanduser()
    annotations, broken = _coco.annotation_files(root)
    found = {}
    if annotations:
        files = ", ".join(os.path.relpath(file, root) for file in annotations.values())
        found[f"annotations in COCO's form ({files})"] = _coco.coco
    if folders := _voc.annotation_folders(root):
        places = ", ".join(os.path.relpath(place, root) for place, _ in folders.values())
        found[f"annotations in Pascal VOC's form (xml files in {places})"] = _voc.voc
    if folders := _pairs.folders(root):
        places = ", ".join(os.path.relpath(place, root) for pair in folders.values() for place in pair)
        found[f"pictures with masks ({places})"] = _pairs.pairs
    if len(found) > 1:
        raise ValueError(f"{root} can be read in {len(found)} ways: {'; '.join(found)}. Leave in it what is meant")
    for make in found.values():
        return make(path, on_error)
    try:
        return classes(path, on_error)
    except ValueError as error:
        if not broken:
            raise
        file, reason = next(iter(broken.items()))
        raise ValueError(
            f"{root}: {os.path.relpath(file, root)} is {reason}; and no other layout is there: {error}"
        ) from error
