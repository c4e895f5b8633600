"""Anyone's pictures: a folder with one subfolder per class.

    pictures/cat/*.jpg  pictures/dog/*.jpg                        split here: 70 % train, 15 % validation, 15 % test
    pictures/train/cat/*.jpg  pictures/test/cat/*.jpg  ...        split by whoever made it; "val" and "valid" are read as "validation"

Every picture is decoded once when the folder is opened, so that a broken one is told at once and by name, not in the middle of training.
JPEG, PNG, BMP, GIF (its first frame) and WebP are read. Pictures are turned upright as their EXIF data says, what is transparent is laid on
white, 16 bits become 8.
"""

import concurrent.futures
import functools
import hashlib
import os
import pathlib
import warnings

import numpy as np

from utils.data.description import Description

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
SHARE = 0.15  # of each class, for validation and for test each
IGNORED = (
    "thumbs.db",
    "desktop.ini",
    "__macosx",
)  # what operating systems leave behind; names that begin with a dot as well
LISTED = 5  # unusable files that a message names


class Folder:
    """A source made of the pictures in a folder.

    Args:
        path: the folder.
        on_error: "raise" for an error that lists what cannot be used, "skip" for a warning that lists it and the remaining pictures.

    Raises:
        ValueError: fewer than two classes, a class without pictures, files that are no pictures or do not decode.
    """

    targets = ("label",)

    def __init__(self, path, on_error="raise"):
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        self.root = pathlib.Path(path).expanduser()
        tree = look(self.root)
        headers, unusable = inspect_all(
            [file for classes in tree.values() for files in classes.values() for file in files]
        )
        if unusable:
            self._tell(unusable, len(headers) + len(unusable), on_error)
        names = class_names(self.root, tree)
        usable = {
            split: {name: [file for file in files if file in headers] for name, files in tree[split].items()}
            for split in tree
        }
        for split, classes in usable.items():
            for name, files in classes.items():
                if not files:
                    raise ValueError(f"{self.root}: class {name!r} has no pictures" + (f" in {split}" if split else ""))
        note = ""
        if None in usable:
            usable = split_by_hash(usable[None])
            note = "Split here: of each class 70 % train, 15 % validation, 15 % test, by a hash of the file names."
        self._files, self._labels = {}, {}
        for split, classes in usable.items():
            labelled = sorted(
                (name_hash(file), file, names.index(name)) for name, files in classes.items() for file in files
            )
            self._files[split] = [
                file for _, file, _ in labelled
            ]  # classes mixed: any part of a split is a fair sample
            self._labels[split] = np.array([label for *_, label in labelled], np.int32)
        shapes = set(headers.values())
        height, width = next(iter(shapes))[:2] if len({shape[:2] for shape in shapes}) == 1 else (None, None)
        self.description = Description(
            name=os.fspath(path),
            title="pictures of your own",
            classes=names,
            splits={split: len(files) for split, files in self._files.items()},
            image_shape=(height, width, max(shape[2] for shape in shapes)),
            licence="",
            citation="",
            source=os.fspath(self.root.resolve()),
            note=note,
        )

    def labels(self, split):
        return self._labels[split]

    def images(self, split, indices):
        for index in indices:
            yield read(self._files[split][index], self.description.image_shape[2])

    def records(self, split, start, stop):
        import tensorflow as tf

        files = [os.fsencode(file) for file in self._files[split][start:stop]]
        return tf.data.Dataset.from_tensor_slices(
            {"file": tf.constant(files, tf.string, shape=(len(files),)), "label": self._labels[split][start:stop]}
        )

    def decode(self, record):
        import tensorflow as tf

        shape = self.description.image_shape
        image = tf.numpy_function(
            lambda file: read(os.fsdecode(file), shape[2]), [record["file"]], tf.uint8, stateful=False
        )
        image.set_shape(shape)
        return {"image": image, "label": record["label"]}

    def _tell(self, unusable, count, on_error):
        listed = "; ".join(
            f"{os.path.relpath(file, self.root)}: {reason}" for file, reason in list(unusable.items())[:LISTED]
        )
        more = f"; and {len(unusable) - LISTED} more" if len(unusable) > LISTED else ""
        text = f"{self.root}: {len(unusable)} of {count} files cannot be used: {listed}{more}"
        if on_error == "raise":
            raise ValueError(f"{text}. Mend or remove them, or pass on_error='skip' to go on without them")
        warnings.warn(f"{text}. They are left out", stacklevel=2)


def look(root):
    """What lies in a folder: {split or None: {class: [files]}}, sorted by name; None where the folder is not split.

    Raises:
        ValueError: the folder cannot be read as classes.
    """
    children = subfolders(root)
    if (
        children
        and all(child.name.lower() in SPLITS for child in children)
        and all(subfolders(child) for child in children)
    ):
        tree = {}
        for child in children:
            split = SPLITS[child.name.lower()]
            if split in tree:
                raise ValueError(f"{root}: two folders for the split {split}")
            tree[split] = look_at_classes(root, child)
        return {split: tree[split] for split in ("train", "validation", "test") if split in tree}
    return {None: look_at_classes(root, root)}


def look_at_classes(root, folder):
    """{class: [files]} of a folder with one subfolder per class."""
    children = subfolders(folder)
    loose = [path for path in visible(folder) if path.is_file() and is_picture(path)]
    if loose:
        raise ValueError(
            f"{root}: {len(loose)} pictures lie outside the class folders: {', '.join(path.name for path in loose[:LISTED])}"
        )
    for child in children:
        if inner := subfolders(child):
            advice = f"; did you mean {child}?" if len(children) == 1 else ""
            raise ValueError(f"{root}: there is a folder inside the class {child.name!r}: {inner[0].name}{advice}")
    if len(children) < 2:
        raise ValueError(
            f"{root}: {len(children)} class folders found in {folder}; a data set is a folder with one subfolder per class"
        )
    return {child.name: [path for path in visible(child) if path.is_file()] for child in children}


def class_names(root, tree):
    """The classes of all splits, sorted; ValueError if a split has one that the training split does not have."""
    names = tuple(sorted(tree[next(iter(tree))]))
    for split, classes in tree.items():
        if unknown := sorted(set(classes) - set(names)):
            raise ValueError(f"{root}: {split} has a class that {next(iter(tree))} does not have: {', '.join(unknown)}")
    return names


def visible(folder):
    """What is in a folder, sorted by name, without what operating systems leave behind."""
    try:
        return sorted(
            path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in IGNORED
        )
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error


def subfolders(folder):
    """The folders in a folder."""
    return [path for path in visible(folder) if path.is_dir()]


def is_picture(path):
    """Whether a file's name says that it is a picture."""
    return path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def inspect_all(files):
    """Decodes every file once.

    Returns:
        ({file: (height, width, channels)} of those that decode, {file: reason} of the others).
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = dict(zip(files, pool.map(inspect, files)))
    shapes = {file: shape for file, shape in found.items() if not isinstance(shape, str)}
    return shapes, {file: reason for file, reason in found.items() if isinstance(reason, str)}


def inspect(file):
    """(height, width, channels) of a picture, or words that say why it cannot be used."""
    try:
        state = os.stat(file)
    except OSError as error:
        return error.strerror
    return _inspect(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 16)
def _inspect(file, size, _modified):
    from PIL import Image

    if not size:
        return "empty"
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if picture.getexif().get(ORIENTATION, 1) >= 5:  # lies on its side
                width, height = height, width
            channels = 1 if is_grey(picture) else 3
            picture.draft(None, (64, 64))  # a JPEG is read to its end, but not drawn in full
            picture.load()
    except Image.UnidentifiedImageError:
        return "not a picture (JPEG, PNG, BMP, GIF, WebP)"
    except Exception as error:  # broken files make Pillow raise errors of many kinds
        return str(error) or type(error).__name__
    return height, width, channels


ORIENTATION = 0x0112  # the EXIF tag


def is_grey(picture):
    """Whether a Pillow image has no colour by its mode."""
    return picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")


def read(file, channels):
    """Reads a picture upright, on white where it is transparent.

    Args:
        file: path.
        channels: 1 for grey, 3 for RGB.

    Returns:
        (H, W, channels) uint8.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=FORMATS) as picture:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):
            picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


def split_by_hash(classes):
    """Splits {class: [files]} into train, validation and test, each class by itself, by the hashes of the file names.

    A class of two pictures gives one to train and one to test; a class of one gives it to train.
    """
    tree = {"train": {}, "validation": {}, "test": {}}
    for name, files in classes.items():
        files = sorted(files, key=name_hash)
        share = max(round(SHARE * len(files)), 1)
        test = min(share, len(files) - 1)
        validation = min(share, len(files) - 1 - test)
        tree["test"][name] = files[:test]
        tree["validation"][name] = files[test : test + validation]
        tree["train"][name] = files[test + validation :]
    return tree


def name_hash(file):
    """SHA-256 of a file's name and its class: the same on every machine, wherever the folder lies."""
    return hashlib.sha256("/".join(pathlib.Path(file).parts[-2:]).encode(errors="surrogateescape")).hexdigest()
