"""What the layouts of folders share: splits, the report of what cannot be used, and the source made of what can."""

import hashlib
import os
import pathlib
import warnings
from dataclasses import dataclass

import numpy as np

from utils.data.description import Description
from utils.data.folders.pictures import is_picture, is_turned, read, stored_size, visible
from utils.data.sources import OneByOne

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
ORDER = ("train", "validation", "test")
SHARE = 0.15  # of each class, for validation and for test each
SPLIT_HERE = "Split here: {}70 % train, 15 % validation, 15 % test, by a hash of the file names."
CUT = "There is no {} split: it is cut here from the {} split, by a hash of the file names."
LISTED = 5  # unusable files and objects that a message names


@dataclass(frozen=True)
class Item:
    """One usable picture.

    Attributes:
        file: path.
        truth: what its layout knows of it.
        upright: whether to turn it as its EXIF data says.
    """

    file: pathlib.Path
    truth: object
    upright: bool = True


def source(path, items, shapes, truth, labels=None, **facts):
    """A source of the pictures in a folder.

    Args:
        path: of the folder, as it was given.
        items: {split: [Item]}.
        shapes: {file: (height, width, channels)}.
        truth: function of (Item, (height, width)) that returns the example without its image.
        labels: {split: (N,) int32} if there are any.
        facts: what the `Description` says besides.

    Returns:
        `OneByOne`.

    Raises:
        ValueError: there is no picture at all.
    """
    root = pathlib.Path(path).expanduser()
    used = {shapes[item.file] for split in items.values() for item in split}
    if not used:
        raise ValueError(f"{root}: there is no picture that can be used")
    sides = {
        shapes[item.file][:2] if item.upright else shapes[item.file][1::-1]
        for split in items.values()
        for item in split
    }
    height, width = next(iter(sides)) if len(sides) == 1 else (None, None)
    description = Description(
        name=os.fspath(path),
        splits={split: len(items[split]) for split in ORDER if split in items},
        image_shape=(height, width, max(shape[2] for shape in used)),
        licence="",
        citation="",
        source=os.fspath(root.resolve()),
        **facts,
    )

    def example(split, index):
        item = items[split][index]
        image = read(item.file, description.image_shape[2], item.upright)
        return {"image": image} | truth(item, image.shape[:2])

    return OneByOne(description, description.targets, example, labels and labels.__getitem__)


def report(root, on_error, files=None, count=0, objects=None, object_count=0):
    """Tells what cannot be used, all of it at once.

    Args:
        root: the folder.
        on_error: "raise" or "skip".
        files: {file: reason}, of `count` files looked at.
        objects: [reason] that names the file and the object, of `object_count`.

    Returns:
        a sentence for the description that says what is left out, or "".

    Raises:
        ValueError: `on_error` is "raise" and there is something to tell.
    """
    told, short = [], []
    for what, problems, total in (
        ("files", [f"{os.path.relpath(file, root)}: {reason}" for file, reason in (files or {}).items()], count),
        ("objects", objects or [], object_count),
    ):
        if problems:
            more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
            told.append(f"{len(problems)} of {total} {what} cannot be used: {'; '.join(problems[:LISTED])}{more}")
            short.append(f"{len(problems)} of {total} {what}")
    if not told:
        return ""
    text = f"{root}: {'. '.join(told)}"
    if on_error == "raise":
        raise ValueError(f"{text}. Mend or remove them, or pass on_error='skip' to go on without them")
    warnings.warn(f"{text}. They are left out", stacklevel=2)
    return f"Left out, because they cannot be used: {', '.join(short)}."


def checked_on_error(on_error):
    """ValueError if `on_error` is neither "raise" nor "skip"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")


def split_items(items, group=lambda item: ""):
    """Train, validation and test from what is there; where all three are there, they stay. In each, the order is that
    of the hashes.

    Pictures that are not split, or all in one split: 70, 15 and 15 %. No test: one half of the validation split. No
    validation: 15 % of the training split. No training split: what the validation split has beyond 15 %. Where that
    gives no picture at all, the test is 15 % of the training split, and the validation one half of the test. No picture
    is ever in two splits.

    Args:
        items: {split or None: [Item]}.
        group: function from an item to its class, of which each split gets its share.

    Returns:
        ({split: [Item]} of train, validation and test, a sentence that says how it was split, or "").
    """
    items = {split: part for split, part in items.items() if part}
    by_file = {item.file: item for part in items.values() for item in part}

    def cut(split, rule):
        classes = {}
        for item in items[split]:
            classes.setdefault(group(item), []).append(item.file)
        parts = rule(dict(sorted(classes.items())))
        return {name: [by_file[file] for files in part.values() for file in files] for name, part in parts.items()}

    note = ""
    if len(items) == 1:
        ((split, part),) = items.items()
        of_each = "of each class " if len({group(item) for item in part}) > 1 else ""
        items = cut(split, split_by_hash)
        note = (
            SPLIT_HERE.format(of_each)
            if split is None
            else f"All pictures are of the split {split}. {SPLIT_HERE.format(of_each)}"
        )
    elif missing := [split for split in ORDER if items and split not in items]:
        (missing,) = missing
        from_half = {"test": "validation", "validation": "test"}.get(missing)
        ways = [("validation", lambda classes: share(classes, "validation", "train"))] if missing == "train" else []
        ways += [("train", lambda classes: share(classes, missing, "train"))] if missing != "train" else []
        if from_half:
            ways.insert(0 if missing == "test" else 1, (from_half, lambda classes: halves(classes, missing, from_half)))
        for place, rule in ways:
            found = cut(place, rule)
            if all(found.values()):
                break
        items |= found
        note = CUT.format(missing, place)
    items = {split: items.get(split, []) for split in ORDER}
    return {
        split: sorted(part, key=lambda item: (name_hash(item.file), item.file)) for split, part in items.items()
    }, note


def halves(classes, part, rest):
    """One half of each class as split `part`, the other one as `rest`, by the hashes of the file names; an odd file
    goes to `rest`.
    """
    tree = {part: {}, rest: {}}
    for name, files in classes.items():
        files = sorted(files, key=name_hash)
        tree[part][name], tree[rest][name] = files[: len(files) // 2], files[len(files) // 2 :]
    return tree


def share(classes, part, rest):
    """15 % of each class, at least one file of it but never all, as split `part`; what remains as `rest`."""
    tree = {part: {}, rest: {}}
    for name, files in classes.items():
        files = sorted(files, key=name_hash)
        count = min(max(round(SHARE * len(files)), 1), len(files) - 1)
        tree[part][name], tree[rest][name] = files[:count], files[count:]
    return tree


def split_by_hash(classes):
    """Splits {class: [files]} into train, validation and test, each class by itself, by the hashes of the file names.

    A class of two pictures gives one to train and one to test; a class of one gives it to train.
    """
    tree = {"train": {}, "validation": {}, "test": {}}
    for name, files in classes.items():
        files = sorted(files, key=name_hash)
        share = max(round(SHARE * len(files)), 1)
        test = max(min(share, len(files) - 1), 0)
        validation = max(min(share, len(files) - 1 - test), 0)
        tree["test"][name] = files[:test]
        tree["validation"][name] = files[test : test + validation]
        tree["train"][name] = files[test + validation :]
    return tree


def name_hash(file):
    """SHA-256 of a file's name and its folder's: the same on every machine, wherever the folder lies."""
    return hashlib.sha256("/".join(pathlib.Path(file).parts[-2:]).encode(errors="surrogateescape")).hexdigest()


def child(folder, names):
    """The subfolder that has one of the names, in small or capital letters, or None."""
    return next((path for path in visible(folder) if path.is_dir() and path.name.lower() in names), None)


def split_folders(root):
    """{split: folder} of the subfolders that are named as splits; ValueError if two are for the same."""
    found = {}
    for path in visible(root):
        if path.is_dir() and (split := SPLITS.get(path.name.lower())):
            if split in found:
                raise ValueError(f"{root}: two folders for the split {split}")
            found[split] = path
    return {split: found[split] for split in ORDER if split in found}


def pictures_in(folder):
    """The pictures in a folder, by name; none if it is no folder."""
    return [path for path in visible(folder) if path.is_file() and is_picture(path)] if folder.is_dir() else []


def orientations(sizes, shapes):
    """Whether truth belongs to the pictures upright, or as they are stored, by the sizes that it was made for.

    A picture that is turned by half, or square, or whose truth has no size, fits both ways. What the other pictures of
    the folder show holds
    for it too: tools turn all pictures or none.

    Args:
        sizes: {file: (height, width) that its truth was made for, or None if it does not say}.
        shapes: {file: (height, width, channels) upright}.

    Returns:
        {file: True for upright, False for as stored, None if the size is neither}; a sentence that names the files for
        which nothing shows it, which are taken to be upright, or "".
    """
    found, open_ = {}, []
    for file, size in sizes.items():
        if not is_turned(file):
            found[file] = True if size in (None, shapes[file][:2]) else None
            continue
        stored = stored_size(file)
        fits = [upright for upright, own in ((True, shapes[file][:2]), (False, stored)) if size in (None, own)]
        if len(fits) > 1:
            open_.append(file)
        else:
            found[file] = fits[0] if fits else None
    shown = {found[file] for file in found if found[file] is not None and is_turned(file)}
    found |= dict.fromkeys(open_, shown == {True} or len(shown) != 1)
    if not open_ or len(shown) == 1:
        return found, ""
    names = ", ".join(file.name for file in open_[:LISTED]) + (", ..." if len(open_) > LISTED else "")
    why = "the others show both" if shown else "nothing shows which"
    return found, (
        f"The EXIF data of {names} turn the picture, and the annotations fit it turned and as it is stored ({why}): "
        "they are taken for the picture upright."
    )


def class_list(folder, stop):
    """The lines of `classes.txt` in a folder or in one above it, up to `stop`; None if there is no such file."""
    for place in (folder, *folder.parents):
        if (file := place / "classes.txt").is_file():
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
            lines = [line for line in lines if line]
            if not lines or len(set(lines)) < len(lines):
                raise ValueError(f"{file}: expected one class a line, each once")
            return lines
        if place == stop:
            return None
    return None


def checked_box(box, height, width):
    """A box within its image.

    Args:
        box: four numbers, xyxy pixels.
        height, width: of the image.

    Returns:
        ((4,) float32, "") or (None, reason). A box that reaches at most one pixel over the edge was rounded, and is cut
        at the edge.
    """
    from utils.boxes import clip  # imports Keras, which most of utils.data does without

    box = np.asarray(box, np.float64)
    shown = "[" + ", ".join(f"{value:g}" for value in box) + "]"
    if not np.isfinite(box).all():
        return None, f"box {shown} is not made of numbers"
    if (box[2:] <= box[:2]).any():
        return None, f"box {shown} has no area"
    limits = np.array([width, height, width, height])
    if (box < -1).any() or (box > limits + 1).any():
        return None, f"box {shown} reaches outside the image, {height} x {width} (height x width)"
    box = clip(box, height, width)
    if (box[2:] <= box[:2]).any():
        return None, f"box {shown} has no area inside the image"
    return box.astype(np.float32), ""
