"""One subfolder per class.

- `pictures/cat/*.jpg`, `pictures/dog/*.jpg`: split here, 70 % train, 15 % validation, 15 % test.
- `pictures/train/cat/*.jpg`, `pictures/test/cat/*.jpg`: split by whoever made it. "val" and "valid" are read as
  "validation"; what is missing of the three splits is cut from the others.
"""

import pathlib

import numpy as np

from utils.data.folders.common import LISTED, SPLITS, Item, report, source, split_folders, split_items
from utils.data.folders.pictures import inspect_all, is_picture, subfolders, visible

# Names of folders that hold pictures, and of folders that hold what was written or drawn for them.
PICTURES = ("images", "image", "img", "imgs", "jpegimages", "pictures", "photos", "frames")
TRUTH = (
    *(
        "masks",
        "mask",
        "labels",
        "label",
        "annotations",
        "annotation",
        "annots",
        "xml",
        "xmls",
        "json",
        "boxes",
        "bboxes",
        "gt",
    ),
    *(
        "groundtruth",
        "ground_truth",
        "segmentation",
        "segmentations",
        "segmentationclass",
        "segmentationobject",
        "imagesets",
    ),
)


def classes(path, on_error="raise"):
    """The source of a folder with one subfolder per class.

    Raises:
        ValueError: fewer than two classes, a class without pictures, files that are no pictures or do not decode.
    """
    root = pathlib.Path(path).expanduser()
    tree = look(root)
    shapes, unusable = inspect_all([file for names in tree.values() for files in names.values() for file in files])
    left_out = report(root, on_error, unusable, len(shapes) + len(unusable))
    names = class_names(root, tree)
    usable = {
        split: {name: [file for file in files if file in shapes] for name, files in tree[split].items()}
        for split in tree
    }
    for split, found in usable.items():
        for name, files in found.items():
            if not files:
                raise ValueError(f"{root}: class {name!r} has no pictures" + (f" in {split}" if split else ""))
    items = {
        split: [Item(file, names.index(name)) for name, files in found.items() for file in files]
        for split, found in usable.items()
    }
    items, note = split_items(items, lambda item: item.truth)  # classes mixed: any part of a split is a fair sample
    return source(
        path,
        items,
        shapes,
        truth=lambda item, size: {"label": item.truth},
        labels={split: np.array([item.truth for item in part], np.int32) for split, part in items.items()},
        title="pictures of your own",
        classes=names,
        note=" ".join(filter(None, (note, left_out))),
    )


def look(root):
    """What lies in a folder: {split or None: {class: [files]}}, sorted by name; None where the folder is not split.

    Raises:
        ValueError: the folder cannot be read as classes.
    """
    children = subfolders(root)
    if children and all(child.name.lower() in SPLITS for child in children):
        bare = [child.name for child in children if not subfolders(child)]
        if bare:
            raise ValueError(
                f"{root}: {', '.join(bare)} {'is a split' if len(bare) == 1 else 'are splits'} by name, but without "
                "class folders: without a class a picture teaches nothing"
            )
        return {split: look_at_classes(root, child) for split, child in split_folders(root).items()}
    return {None: look_at_classes(root, root)}


def look_at_classes(root, folder):
    """{class: [files]} of a folder with one subfolder per class."""
    children = subfolders(folder)
    names = {child.name.lower(): child.name for child in children}
    parts = [[names[name] for name in sorted(names) if name in known] for known in (PICTURES, TRUTH)]
    if all(parts):
        raise ValueError(
            f"{root}: {', '.join(parts[0] + parts[1])} look like pictures and what belongs to them, not like classes. "
            "Masks are pictures in a folder masks (or labels), one for each picture in images; boxes are in COCO's or "
            "Pascal VOC's form"
        )
    loose = [path for path in visible(folder) if path.is_file() and is_picture(path)]
    if loose:
        raise ValueError(
            f"{root}: {len(loose)} pictures lie outside the class folders: "
            f"{', '.join(path.name for path in loose[:LISTED])}"
        )
    for child in children:
        if inner := subfolders(child):
            advice = f"; did you mean {child}?" if len(children) == 1 else ""
            raise ValueError(f"{root}: there is a folder inside the class {child.name!r}: {inner[0].name}{advice}")
    if len(children) < 2:
        raise ValueError(
            f"{root}: {len(children)} class folders found in {folder}; a data set is a folder with one subfolder per "
            "class, or images and masks, or "
            "pictures with annotations in COCO's or Pascal VOC's form"
        )
    return {child.name: [path for path in visible(child) if path.is_file()] for child in children}


def class_names(root, tree):
    """The classes of all splits, sorted; ValueError if a split has one that the training split does not have."""
    names = tuple(sorted(tree[next(iter(tree))]))
    for split, classes in tree.items():
        if unknown := sorted(set(classes) - set(names)):
            raise ValueError(f"{root}: {split} has a class that {next(iter(tree))} does not have: {', '.join(unknown)}")
    return names
