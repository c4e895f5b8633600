"""Pictures and their masks, in two folders: `images` and `masks`.

    pictures/images/a.jpg  pictures/masks/a.png                   split here: 70 % train, 15 % validation, 15 % test
    pictures/train/images/a.jpg  pictures/train/masks/a.png  ...  split by whoever made it; also images/train/a.jpg,
    masks/train/a.png

A mask has its picture's name (`a.png` or `a_mask.png`) and its size. What its values mean:

- grey or with a palette: the value is the class; 0 is the background and 255 is ignored. If all masks hold nothing but
  0 and 255, 255 is the one class;
- in colours: each colour is a class; black is the background.

`classes.txt` in the folder names the values from 0 on, one a line; the first names the background. In colours a line is
a name and three numbers, "road 128 64 128". With one line, it names the one class of masks of 0 and 1, or 0 and 255.
Without the file, the classes are called by the values found, 1, 2, ... or "#804080", in rising order.
"""

import functools
import os
import pathlib
import re

import numpy as np

from utils.data.folders.common import (
    Item,
    child,
    class_list,
    orientation,
    pictures_in,
    report,
    source,
    split_folders,
    split_items,
)
from utils.data.folders.pictures import FORMATS, inspect_all
from utils.labels import IGNORED

IMAGES, MASKS = ("images", "image"), ("masks", "mask")
MOST = 64  # classes that are believed without a classes.txt
BINARY = "object"


def folders(root):
    """{split or None: (folder of images, folder of masks)}; empty if the folder is not laid out like this."""
    images, masks = child(root, IMAGES), child(root, MASKS)
    if images and masks:
        inner = split_folders(images), split_folders(masks)
        if inner[0] and not pictures_in(images):
            missing = set(inner[0]) ^ set(inner[1])
            if missing:
                raise ValueError(f"{root}: the split {', '.join(sorted(missing))} has images or masks, not both")
            return {split: (inner[0][split], inner[1][split]) for split in inner[0]}
        return {None: (images, masks)}
    found = {split: (child(place, IMAGES), child(place, MASKS)) for split, place in split_folders(root).items()}
    return {split: pair for split, pair in found.items() if all(pair)}


def pairs(path, on_error="raise"):
    """The source of a folder of pictures with masks.

    Raises:
        ValueError: pictures or masks that do not decode, have no partner, or differ in size; values that `classes.txt`
            does not name.
    """
    root = pathlib.Path(path).expanduser()
    unusable, matched, count = {}, {}, 0
    for split, (image_folder, mask_folder) in folders(root).items():
        images, masks = by_stem(image_folder, unusable), by_stem(mask_folder, unusable, "_mask")
        count += len(pictures_in(image_folder)) + len(pictures_in(mask_folder))
        for stem in images.keys() - masks.keys():
            unusable[images[stem]] = f"no mask of that name in {os.path.relpath(mask_folder, root)}"
        for stem in masks.keys() - images.keys():
            unusable[masks[stem]] = f"no image of that name in {os.path.relpath(image_folder, root)}"
        matched[split] = [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    shapes, broken = inspect_all([image for part in matched.values() for image, _ in part])
    unusable |= broken
    kept, codes, upright = {}, {}, {}
    for split, part in matched.items():
        kept[split] = []
        for image, mask in part:
            found = inspect_mask(mask)
            if isinstance(found, str):
                unusable[mask] = found
            elif image in shapes:
                size, colour, values = found
                upright[image] = orientation(image, shapes[image], size)
                if upright[image] is None:
                    height, width = shapes[image][:2]
                    unusable[mask] = f"is {size[0]} x {size[1]}, its image {height} x {width} (height x width)"
                else:
                    kept[split].append((image, mask))
                    codes[mask] = colour, values
    in_colours = any(colour for colour, _ in codes.values())
    if in_colours:  # a mask that happens to be grey is one in colours whose red, green and blue are equal
        codes = {
            mask: (True, [v if colour else v * 0x010101 for v in values]) for mask, (colour, values) in codes.items()
        }
    found = sorted({value for _, values in codes.values() for value in values})
    mask_classes, table, meaning = meaning_of(found, in_colours, class_list(root, root), root)
    items = {split: [] for split in kept}
    for split, part in kept.items():
        for image, mask in part:
            unknown = [value for value in codes[mask][1] if value not in table]
            if unknown:
                unusable[mask] = f"{shown(unknown, in_colours)} is not in classes.txt, which names {meaning}"
            else:
                items[split].append(Item(image, mask, upright[image]))
    left_out = report(root, on_error, unusable, count)
    items, note = split_items(items)
    keys = np.array(sorted(table), np.int64)
    targets = np.array([table[key] for key in keys.tolist()], np.uint8)

    def truth(item, size):
        values, _ = read_mask(item.truth, in_colours)
        return {"mask": targets[np.searchsorted(keys, values)]}

    return source(
        path,
        items,
        shapes,
        truth,
        title="pictures of your own, with masks",
        classes=mask_classes[1:],
        mask_classes=mask_classes,
        targets=("mask",),
        note=" ".join(filter(None, (note, f"Values of the masks: {meaning}.", left_out))),
    )


def by_stem(folder, unusable, ending=""):
    """{name without `ending` and suffix: file}; of two with one name, both are unusable."""
    found = {}
    for file in pictures_in(folder):
        found.setdefault(file.stem.removesuffix(ending), []).append(file)
    for files in found.values():
        if len(files) > 1:
            unusable |= dict.fromkeys(files, f"two files of one name: {', '.join(file.name for file in files)}")
    return {stem: files[0] for stem, files in found.items() if len(files) == 1}


def inspect_mask(file):
    """((height, width), whether it has colours, its values), or words that say why it cannot be used."""
    state = os.stat(file)
    return _inspect_mask(file, state.st_size, state.st_mtime_ns) if state.st_size else "empty"


@functools.lru_cache(maxsize=1 << 16)
def _inspect_mask(file, size, _modified):
    from PIL import Image

    try:
        values, colour = read_mask(file)
    except Image.UnidentifiedImageError:
        return "not a picture (JPEG, PNG, BMP, GIF, WebP)"
    except Exception as error:  # broken files make Pillow raise errors of many kinds
        return str(error) or type(error).__name__
    return values.shape, colour, np.unique(values).tolist()


def read_mask(file, in_colours=None):
    """Reads a mask.

    Args:
        file: path.
        in_colours: whether to give colours; None for colours only where red, green and blue differ.

    Returns:
        values (H, W) int64, a colour as red * 65536 + green * 256 + blue; whether they are colours.

    Raises:
        ValueError: a JPEG of more than black and white: its values are smeared.
    """
    from PIL import Image

    with Image.open(file, formats=FORMATS) as picture:
        lossy = picture.format == "JPEG"
        if picture.mode in ("LA", "La"):
            picture = picture.convert("L")
        elif picture.mode not in ("1", "L", "P", "RGB") and not picture.mode.startswith("I"):
            picture = picture.convert("RGB")
        values = np.asarray(picture).astype(np.int64)
    if lossy:
        if ((values > 40) & (values < 215)).any():
            raise ValueError("a JPEG smears the values of a mask: keep masks as PNG")
        values = np.where(values < 128, 0, 255)
    if values.ndim == 3:
        grey = (values == values[..., :1]).all()
        if in_colours or (in_colours is None and not grey):
            return values @ np.array([1 << 16, 1 << 8, 1]), True
        return values[..., 0], False
    return (values * 0x010101, True) if in_colours else (values, False)


def meaning_of(found, in_colours, lines, root):
    """What the values of masks mean.

    Args:
        found: the values in all masks, in rising order.
        in_colours: whether they are colours.
        lines: of `classes.txt`, or None.
        root: the folder, for messages.

    Returns:
        names of the classes, the background first; {value: index of its class, or 255}; words for people.

    Raises:
        ValueError: more values than classes have, or nothing but background.
    """
    if in_colours and lines:
        entries = [re.fullmatch(r"(.+?)[\s,:]+(\d+)[\s,]+(\d+)[\s,]+(\d+)", line) for line in lines]
        if not all(entries):
            line = lines[entries.index(None)]
            raise ValueError(
                f"{root / 'classes.txt'}: masks in colours need a name and three numbers a line, not {line!r}"
            )
        names = tuple(entry[1] for entry in entries)
        colours = [int(entry[2]) << 16 | int(entry[3]) << 8 | int(entry[4]) for entry in entries]
        return names, dict(zip(colours, range(len(names)))), shown(colours, True)
    objects = [value for value in found if value != 0 and (in_colours or value != IGNORED)]
    binary = not in_colours and IGNORED in found and not objects
    if lines and (len(lines) == 1 or (binary and len(lines) == 2)):
        on = IGNORED if binary else 1
        names = ("background", lines[0]) if len(lines) == 1 else tuple(lines)
        table = {0: 0, on: 1} | ({} if binary else {IGNORED: IGNORED})
        return names, table, f"0 {names[0]}, {on} {names[1]}"
    if lines:
        table = dict(zip(range(len(lines)), range(len(lines)))) | {IGNORED: IGNORED}
        return tuple(lines), table, f"0 to {len(lines) - 1} as in classes.txt, 255 ignored"
    if binary:
        return ("background", BINARY), {0: 0, IGNORED: 1}, f"0 background, 255 {BINARY}"
    if not objects:
        raise ValueError(f"{root}: no mask has anything but background")
    if len(objects) > MOST:
        raise ValueError(
            f"{root}: {len(objects)} different values in the masks: these are no classes (numbers of objects? colours "
            "smeared by resizing?); "
            "name the classes in classes.txt if they are"
        )
    names = tuple(f"#{value:06x}" if in_colours else str(value) for value in objects)
    table = {0: 0} | {value: index for index, value in enumerate(objects, 1)}
    if not in_colours:
        table[IGNORED] = IGNORED
    kept = "" if in_colours else ", 255 ignored"
    numbers = ", ".join(f"{name} -> {index}" for index, name in enumerate(names, 1))
    return ("background", *names), table, f"0 background, {numbers}{kept}"


def shown(values, in_colours):
    """Values for people."""
    words = [f"({v >> 16}, {v >> 8 & 255}, {v & 255})" if in_colours else str(v) for v in values]
    return ("colour " if in_colours else "value ") + ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
