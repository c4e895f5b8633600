"""Pictures and their masks, in two folders: `images` and `masks` (or `labels`, `annotations`, ..., if they hold
pictures).

    pictures/images/a.jpg  pictures/masks/a.png                   split here: 70 % train, 15 % validation, 15 % test
    pictures/train/images/a.jpg  pictures/train/masks/a.png  ...  split by whoever made it; also images/train/a.jpg,
    masks/train/a.png

A mask has its picture's name (`a.png`, or with one of the common endings, `a_mask.png`, `a_label.png`,
`a_segmentation.png`) and its size. What its values mean:

- grey or with a palette: the value is the class; 0 is the background and 255 is ignored. If masks hold nothing but 0
  and 255, 255 is the one class;
- in colours: each colour is a class; black is the background. Beside masks with one palette, a colour of it is its
  index.

All masks of a folder speak one language, that of most of them: one that does not is named, and changes nothing for the
others.

`classes.txt` in the folder names the values from 0 on, one a line; the first names the background. In colours a line is
a name and three numbers, "road 128 64 128". With one line, it names the one class of masks of 0 and 1, or 0 and 255.
Without the file, the classes are called by the values found, 1, 2, ... or "#804080", in rising order.
"""

import functools
import os
import pathlib
import re
from dataclasses import dataclass

import numpy as np

from utils.data.folders.common import (
    Item,
    child,
    class_list,
    orientations,
    pictures_in,
    report,
    source,
    split_folders,
    split_items,
)
from utils.data.folders.pictures import FORMATS, inspect_all
from utils.labels import IGNORED

IMAGES = ("images", "image", "imgs", "img", "jpegimages")
MASKS = ("masks", "mask")
OTHER_MASKS = (  # these may hold text as well: they count where they hold pictures
    *("labels", "label", "annotations", "annotation", "segmentations", "segmentation", "segmentationclass"),
    *("groundtruth", "ground_truth", "gt"),
)
# What tools append to a picture's name.
ENDING = re.compile(
    r"[ _.-](masks?|labels?|label_?ids|train_?ids|gt_?fine_label_?ids|segmentation|segm?|gt|ground_?truth|annotation|"
    r"annot|anno|matte)$",
    re.IGNORECASE,
)
MOST = 64  # classes that are believed without a classes.txt
BINARY = "object"


def folders(root):
    """{split or None: (folder of images, folder of masks)}; empty if the folder is not laid out like this."""
    images, masks = child(root, IMAGES), mask_folder(root)
    if images and masks:
        inner = split_folders(images), split_folders(masks)
        if inner[0] and not pictures_in(images):
            missing = set(inner[0]) ^ set(inner[1])
            if missing:
                raise ValueError(f"{root}: the split {', '.join(sorted(missing))} has images or masks, not both")
            return {split: (inner[0][split], inner[1][split]) for split in inner[0]}
        return {None: (images, masks)}
    found = {split: (child(place, IMAGES), mask_folder(place)) for split, place in split_folders(root).items()}
    return {split: pair for split, pair in found.items() if all(pair)}


def mask_folder(root):
    """The folder of masks in a folder, or None."""
    if found := child(root, MASKS):
        return found
    for name in OTHER_MASKS:
        found = child(root, (name,))
        if found and any(pictures_in(place) for place in (found, *split_folders(found).values())):
            return found
    return None


def pairs(path, on_error="raise"):
    """The source of a folder of pictures with masks.

    Raises:
        ValueError: pictures or masks that do not decode, have no partner, or differ in size; values that `classes.txt`
            does not name.
    """
    root = pathlib.Path(path).expanduser()
    unusable, matched, count = {}, {}, 0
    for split, (image_folder, mask_folder) in folders(root).items():
        images = by_stem(pictures_in(image_folder), unusable)
        masks = by_stem(pictures_in(mask_folder), unusable, images)
        count += len(pictures_in(image_folder)) + len(pictures_in(mask_folder))
        for stem in sorted(images.keys() - masks.keys()):
            unusable[images[stem]] = f"no mask of that name in {os.path.relpath(mask_folder, root)}"
        for stem in sorted(masks.keys() - images.keys()):
            unusable[masks[stem]] = f"no image of that name in {os.path.relpath(image_folder, root)}"
        matched[split] = [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    shapes, broken = inspect_all([image for part in matched.values() for image, _ in part])
    unusable |= broken
    codings = {}
    for mask in [mask for part in matched.values() for _, mask in part]:
        found = inspect_mask(mask)
        if isinstance(found, str):
            unusable[mask] = found
        else:
            codings[mask] = found
    sizes = {
        image: codings[mask].size
        for part in matched.values()
        for image, mask in part
        if image in shapes and mask in codings
    }
    upright, turned = orientations(sizes, shapes)
    for image, mask in [pair for part in matched.values() for pair in part]:
        if image in upright and upright[image] is None:
            (rows, columns), (height, width) = codings.pop(mask).size, shapes[image][:2]
            unusable[mask] = f"is {rows} x {columns}, its image {height} x {width} (height x width)"
        elif image not in upright:
            codings.pop(mask, None)
    if not codings:
        report(root, "raise", unusable, count)
    lines = class_list(root, root)
    try:
        language, strangers = language_of(codings, lines, root)
        unusable |= strangers
        codes = {mask: language.values(coding) for mask, coding in codings.items() if mask not in strangers}
        found = sorted({value for values in codes.values() for value in values if value is not None})
        mask_classes, table, meaning = meaning_of(found, language, lines, root)
    except ValueError:
        report(root, on_error, unusable, count)  # what is wrong with files comes first: it may be the cause
        raise
    items = {split: [] for split in matched}
    for split, part in matched.items():
        for image, mask in part:
            if mask not in codes:
                continue
            unknown = [value for value in codes[mask] if value not in table]
            if None in unknown:
                unusable[mask] = "has colours that the palette of the other masks does not have"
            elif unknown:
                unusable[mask] = f"{shown(unknown, language.in_colours)} is not in classes.txt, which names {meaning}"
            else:
                items[split].append(Item(image, mask, upright[image]))
    left_out = report(root, on_error, unusable, count)
    items, note = split_items(items)
    keys = np.array(sorted(table), np.int64)
    targets = np.array([table[key] for key in keys.tolist()], np.uint8)

    def truth(item, size):
        values = language.read(item.truth)
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
        note=" ".join(filter(None, (note, f"Values of the masks: {meaning}.", left_out, turned))),
    )


def by_stem(files, unusable, images=None):
    """{name without suffix: file}; of two with one name, both are unusable.

    Of masks, `images` has the names of the pictures: where none is called like the mask, the common endings are left
    off the mask's name."""
    found = {}
    for file in files:
        stem = file.stem
        if images is not None and stem not in images:
            bare = ENDING.sub("", stem)
            # Of a picture "a_image" too, such as "a_leftImg8bit" beside "a_gtFine_labelIds".
            ends = [name for name in images if re.fullmatch(re.escape(bare) + r"[ _.-](image|img|leftImg8bit)", name)]
            stem = bare if bare in images or not ends else ends[0]
        found.setdefault(stem, []).append(file)
    for same in found.values():
        if len(same) > 1:
            unusable |= dict.fromkeys(same, f"two files of one name: {', '.join(file.name for file in same)}")
    return {stem: same[0] for stem, same in found.items() if len(same) == 1}


@dataclass(frozen=True)
class Coding:
    """What a mask holds: its (height, width); its `kind`, "grey", "palette" or "colour"; its values in rising order (of
    a palette the indices); of a palette, {index: colour} of those.
    """

    size: tuple
    kind: str
    values: tuple
    palette: dict


def inspect_mask(file):
    """`Coding` of a mask, or words that say why it cannot be used."""
    state = os.stat(file)
    return _inspect_mask(file, state.st_size, state.st_mtime_ns) if state.st_size else "empty"


@functools.lru_cache(maxsize=1 << 16)
def _inspect_mask(file, size, _modified):
    from PIL import Image

    try:
        values, kind, palette = read_mask(file)
    except Image.UnidentifiedImageError:
        return "not a picture (JPEG, PNG, BMP, GIF, WebP)"
    except Exception as error:  # broken files make Pillow raise errors of many kinds
        return str(error) or type(error).__name__
    found = np.unique(values).tolist()
    return Coding(
        values.shape, kind, tuple(found), {value: int(palette[value]) for value in found} if len(palette) else {}
    )


def read_mask(file):
    """Reads a mask as it is.

    Returns:
        values (H, W) int64, a colour as red * 65536 + green * 256 + blue; "grey", "palette" or "colour"; of a palette
        its (256,) colours. Colours that are all grey are "grey".

    Raises:
        ValueError: a JPEG of more than black and white: its values are smeared.
    """
    from PIL import Image

    palette = ()
    with Image.open(file, formats=FORMATS) as picture:
        lossy = picture.format == "JPEG"
        if picture.mode == "P":
            palette = np.zeros((256, 3), np.int64)
            given = np.array(picture.getpalette("RGB")).reshape(-1, 3)
            palette[: len(given)] = given
        elif picture.mode in ("LA", "La"):
            picture = picture.convert("L")
        elif picture.mode not in ("1", "L", "RGB") and not picture.mode.startswith("I"):
            picture = picture.convert("RGB")
        values = np.asarray(picture).astype(np.int64)
    if lossy:
        if ((values > 40) & (values < 215)).any():
            raise ValueError("a JPEG smears the values of a mask: keep masks as PNG")
        values = np.where(values < 128, 0, 255)
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim == 3:
        return values @ WEIGHTS, "colour", palette
    return values, "palette" if len(palette) else "grey", palette @ WEIGHTS if len(palette) else palette


WEIGHTS = np.array([1 << 16, 1 << 8, 1])


@dataclass(frozen=True)
class Language:
    """How the masks of a folder say what they say: in colours or in numbers; `binary`: the numbers are 0 and 255, and
    255 is the object. `indices`, {colour: index}: that of the palette in which colours are looked up.
    """

    in_colours: bool
    binary: bool
    indices: dict

    def values(self, coding):
        """The values of a mask in this language; None for a colour that is in no palette."""
        if self.in_colours:
            return sorted({_colour(value, coding.kind, coding.palette) for value in coding.values})
        if coding.kind == "colour":
            return [self.indices.get(value) for value in coding.values]
        return list(coding.values)

    def read(self, file):
        """The values (H, W) int64 of a mask in this language."""
        values, kind, palette = read_mask(file)
        if not self.in_colours:
            if kind != "colour":
                return values
            colours, places = np.unique(values, return_inverse=True)
            return np.array([self.indices[colour] for colour in colours.tolist()])[places].reshape(values.shape)
        if kind == "palette":
            return palette[values]
        return values * 0x010101 if kind == "grey" else values


def _colour(value, kind, palette):
    return palette[value] if kind == "palette" else value * 0x010101 if kind == "grey" else value


def language_of(codings, lines, root):
    """The language that most masks speak, and those that do not.

    Args:
        codings: {file: `Coding`}.
        lines: of `classes.txt`, or None.
        root: the folder, for messages.

    Returns:
        `Language`, {file: reason}.
    """
    kinds = {
        kind: [mask for mask, one in codings.items() if one.kind == kind] for kind in ("grey", "palette", "colour")
    }
    coloured = kinds["colour"] or kinds["palette"]
    named_colours = bool(coloured and lines) and all(map(COLOUR_LINE.fullmatch, lines))
    grey = [mask for mask in kinds["grey"] if any(codings[mask].values)]  # black is black in every language
    strangers = {}
    if kinds["colour"] and not named_colours:
        indices = _common_palette([codings[mask].palette for mask in kinds["palette"]])
        if kinds["palette"] and indices is not None and not grey:
            return Language(False, False, indices), {}
        if len(grey) > len(kinds["colour"]) + len(kinds["palette"]):
            strangers = dict.fromkeys(kinds["colour"], f"is in colours, where {len(grey)} masks are grey")
    if named_colours or (kinds["colour"] and not strangers):
        return Language(True, False, {}), {}
    numbers = {mask: {*one.values} - {0} for mask, one in codings.items() if mask not in strangers}
    only_255 = [mask for mask, values in numbers.items() if values == {IGNORED}]
    others = [mask for mask, values in numbers.items() if values and values != {IGNORED}]
    if (lines and len(lines) > 2) or not only_255:
        return Language(False, False, {}), strangers
    if len(only_255) > len(others):
        for mask in others:
            odd = sorted(numbers[mask] - {IGNORED})
            strangers[mask] = f"holds {shown(odd, False)}, where {len(only_255)} masks hold nothing but 0 and 255"
        return Language(False, True, {}), strangers
    if not any(IGNORED in numbers[mask] for mask in others):
        example = shown(sorted(numbers[others[0]]), False)
        for mask in only_255:
            strangers[mask] = (
                f"holds nothing but 0 and 255, where {len(others)} masks hold others and never 255 ({example})"
            )
    return Language(False, False, {}), strangers


def _common_palette(palettes):
    """{colour: index} of palettes that agree; None where they do not, or two indices have one colour."""
    colours = {}
    for palette in palettes:
        for index, colour in palette.items():
            if colours.setdefault(colour, index) != index:
                return None
    return colours if len(set(colours.values())) == len(colours) else None


COLOUR_LINE = re.compile(r"(.+?)[\s,:]+(\d+)[\s,]+(\d+)[\s,]+(\d+)")


def meaning_of(found, language, lines, root):
    """What the values of masks mean.

    Args:
        found: the values in all masks, in rising order.
        language: the `Language` they are in.
        lines: of `classes.txt`, or None.
        root: the folder, for messages.

    Returns:
        names of the classes, the background first; {value: index of its class, or 255}; words for people.

    Raises:
        ValueError: more values than classes have, or nothing but background.
    """
    in_colours, binary = language.in_colours, language.binary
    if in_colours and lines:
        entries = [COLOUR_LINE.fullmatch(line) for line in lines]
        if not all(entries):
            line = lines[entries.index(None)]
            raise ValueError(
                f"{root / 'classes.txt'}: masks in colours need a name and three numbers a line, not {line!r}"
            )
        names = tuple(entry[1] for entry in entries)
        colours = [int(entry[2]) << 16 | int(entry[3]) << 8 | int(entry[4]) for entry in entries]
        return names, dict(zip(colours, range(len(names)))), shown(colours, True)
    if lines and all(map(COLOUR_LINE.fullmatch, lines)):
        lines = [COLOUR_LINE.fullmatch(line)[1] for line in lines]  # names and colours, beside masks of numbers
    objects = [value for value in found if value != 0 and (in_colours or value != IGNORED)]
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
