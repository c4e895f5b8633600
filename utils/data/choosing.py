"""The data that a notebook is given by a parameter: a look at it before anything is drawn from it."""

from utils.data.catalogue import describe, names

# What an image must come with, in words.
TRUTH = {
    "label": "one label for each image (a folder with one subfolder per class)",
    "mask": "masks (a folder of images and masks, or annotations in COCO's form with outlines)",
    "boxes": "boxes (annotations in COCO's or Pascal VOC's form)",
}


def chosen(name, target="label", on_error="raise", classes=2, most=None):
    """The description of a data set that a notebook is given, once it is clear that the notebook can use it.

    Args:
        name: one of `names()`, or the path of a folder.
        target: what each image must come with, "label", "mask" or "boxes".
        on_error: as for `describe`.
        classes: how many there must be at least, the background not counted.
        most: how many there may be at most; None: any number.

    Returns:
        `Description`. What it notes of a folder is printed: how it was split, and what was left out.

    Raises:
        ValueError: in one line, what the notebook needs and the data do not have; and as for `describe`.
        FileNotFoundError: as for `describe`.
    """
    description = describe(name, on_error)
    if target not in description.targets:
        found = ", ".join(description.targets) or "nothing"
        raise ValueError(f"this notebook needs {TRUTH[target]}, and {description.name} has {found}: choose other data")
    if len(description.classes) < classes:
        what = "class" if len(description.classes) == 1 else "classes"
        raise ValueError(
            f"this notebook tells at least {classes} classes apart, and {description.name} has "
            f"{len(description.classes)} {what} ({', '.join(description.classes)}): choose other data"
        )
    if most is not None and len(description.classes) > most:
        raise ValueError(
            f"this notebook tells at most {most} classes apart, and {description.name} has "
            f"{len(description.classes)}: choose other data"
        )
    empty = [split for split in ("train", "validation", "test") if not description.splits.get(split)]
    if empty:
        raise ValueError(
            f"this notebook needs images to train, to validate and to test with, and {description.name} has none for "
            f"{', '.join(empty)}: {sum(description.splits.values())} in all are too few"
        )
    if str(name).partition("/")[0] not in names() and description.note:
        print(f"{description.name}: {description.note}")
    return description
