"""Pictures with an annotation file in COCO's form.

    pictures/annotations.json  pictures/*.jpg                                 split here, 70 / 15 / 15 %
    pictures/train/_annotations.coco.json  pictures/train/*.jpg  ...          split by whoever made it
    pictures/annotations/instances_val2017.json  pictures/val2017/*.jpg  ...  likewise, by the names of the files

Where every object has an outline (polygons, or run lengths), there are instance masks and a semantic mask, in which
smaller objects lie over larger ones. What labelling tools write into the list of categories beside the classes is left
out, if no object is of it: the project as the category above all others, and the background. Crowds (`iscrowd`) are
`ignored`: their pixels are 255 in the semantic mask, where no object lies over them, and a crowd without an outline
fills its box. The form: cocodataset.org/#format-data."""

import functools
import json
import math
import os
import pathlib
import re
import textwrap

import numpy as np
from pycocotools import mask as run_lengths

from utils.data.folders.common import (
    ORDER,
    SPLITS,
    Item,
    checked_box,
    orientations,
    pictures_in,
    report,
    source,
    split_folders,
    split_items,
)
from utils.data.folders.pictures import inspect_all, stored_size, visible
from utils.labels import IGNORED


def annotation_files(root):
    """The files of this form in a folder.

    Returns:
        ({split or None: file}, {file: reason} of the json files that cannot be read).

    Raises:
        ValueError: two files for one split.
    """
    folders = [root, root / "annotations", *split_folders(root).values()]
    folders += [folder / "annotations" for folder in folders[2:]]
    candidates = [
        file for folder in folders if folder.is_dir() for file in visible(folder) if file.suffix.lower() == ".json"
    ]
    if instances := [file for file in candidates if file.name.startswith("instances_")]:
        candidates = instances  # COCO puts captions and keypoints beside them
    found, broken = {}, {}
    for file in candidates:
        table = read_json(file)
        if isinstance(table, str):
            broken[file] = table
        elif isinstance(table, dict) and {"images", "annotations"} <= table.keys():
            split = split_of(file, root)
            if split in found:
                where = f"the split {split}" if split else "the whole folder"
                names = f"{os.path.relpath(found[split], root)}, {os.path.relpath(file, root)}"
                raise ValueError(f"{root}: two annotation files for {where}: {names}")
            found[split] = file
    if None in found and len(found) > 1:
        raise ValueError(f"{root}: {found[None].name} is for no split, but other annotation files are")
    return {split: found[split] for split in (None, *ORDER) if split in found}, broken


def split_of(file, root):
    """The split that a file's name or folder speaks of, or None."""
    parts = file.relative_to(root).with_suffix("").parts
    for word in re.findall("[a-z]+", " ".join(reversed(parts)).lower()):
        if word in SPLITS:
            return SPLITS[word]
    return None


def read_json(file):
    """What is in a json file, or words that say why it cannot be read."""
    state = os.stat(file)
    return _read_json(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_json(file, _size, _modified):
    try:
        return json.loads(pathlib.Path(file).read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        return f"not JSON: {error}"


def coco(path, on_error="raise"):
    """The source of a folder with annotations in COCO's form.

    Raises:
        ValueError: an annotation file without categories or of other ones; an id or a file name that stands for two
            pictures or categories; pictures that are missing, do not decode, have another size or stand in no
            annotation file; objects of an unknown class or image, without area, outside their image, or whose outline
            is for another size; a value of a wrong type.
    """
    root = pathlib.Path(path).expanduser()
    files, _ = annotation_files(root)
    tables = {split: read_json(file) for split, file in files.items()}
    tables = {split: checked_table(root, os.path.relpath(files[split], root), table) for split, table in tables.items()}
    names, index_of, dropped = categories(root, files, tables)
    places = {split: find_images(root, split, files[split], tables[split]) for split in files}
    entries = {split: table["images"] for split, table in tables.items()}
    present = [file for part in places.values() for file in part.values() if file]
    shapes, unusable = inspect_all(present)
    named = {file for part in places.values() for file in part.values() if file}
    checked_files(root, files, places)
    bad, crowds, total, items, count = [], 0, 0, {}, 0
    sizes = {
        places[split][number]: (image["height"], image["width"]) if image["height"] and image["width"] else None
        for split in files
        for number, image in enumerate(entries[split])
        if places[split][number] in shapes
    }
    uprights, turned = orientations(sizes, shapes)
    for split, table in tables.items():
        where = os.path.relpath(files[split], root)
        images = {}
        for number, image in enumerate(entries[split]):
            file = places[split][number]
            count += 1
            if file is None:
                unusable[root / image["file_name"]] = f"named by {where}, but not there"
            elif file in shapes:
                upright = uprights[file]
                size = sizes[file] or (shapes[file][:2] if upright else stored_size(file))
                if upright is None:
                    height, width = shapes[file][:2]
                    unusable[file] = f"is {height} x {width}, but {size[0]} x {size[1]} by {where} (height x width)"
                else:
                    images[image["id"]] = file, size, upright, []
        known = {image["id"] for image in entries[split]}
        for number, annotation in enumerate(table["annotations"]):
            total += 1
            here = f"{where}: object {annotation.get('id', number)}"
            if annotation["image_id"] not in known:
                bad.append(f"{here}: there is no image {annotation['image_id']}")
                continue
            if annotation["image_id"] not in images:
                continue  # its picture is told already
            file, size, _, objects = images[annotation["image_id"]]
            found = read_object(annotation, size, index_of)
            if isinstance(found, str):
                bad.append(f"{here} in {file.name}: {found}")
            else:
                crowd = annotation["iscrowd"]
                crowds += crowd
                objects.append((*found, crowd))
        items[split] = [Item(file, objects, upright) for file, _, upright, objects in images.values()]
    for folder in sorted({file.parent for file in named}):
        for file in pictures_in(folder):
            if file not in named:
                unusable[file] = "stands in no annotation file"
                count += 1
    left_out = report(root, on_error, unusable, count, bad, total)
    everything = [found for part in items.values() for item in part for found in item.truth if not found[3]]
    outlined = sum(outline is not None for _, _, outline, _ in everything)
    with_masks = bool(everything) and outlined == len(everything)
    notes = [left_out]
    if crowds:
        notes.append(f"{crowds} crowds are marked as ignored.")
    if dropped:
        notes.append(f"The category {', '.join(dropped)} has no objects and stands for no class: it is left out.")
    if outlined and not with_masks:
        notes.append(
            f"{len(everything) - outlined} of {len(everything)} objects have no outline, so there are no masks."
        )
    items, note = split_items(items)
    targets = ("boxes", "labels", *(["ignored"] if crowds else []))
    targets = ("mask", *targets, "masks") if with_masks else targets
    return source(
        path,
        items,
        shapes,
        functools.partial(truth, targets=targets),
        title="pictures of your own, with annotations in COCO's form",
        classes=names,
        targets=targets,
        mask_classes=("background", *names) if with_masks else (),
        max_objects=max([1, *(len(item.truth) for part in items.values() for item in part)]),
        note=" ".join(filter(None, (note, *notes, turned))),
    )


def checked_table(root, where, table):
    """A table with what is read of it in the right types: numbers that some tools write as text ("40") are read as
    numbers.

    Raises:
        ValueError: a value of another type, or an id that stands for two images or categories. The message names file,
            object and value.
    """

    def converted(kind, number, entry, rules):
        if not isinstance(entry, dict):
            raise ValueError(f"{root}: {where}: {kind} {number} is {shown(entry)}, not an object with keys and values")
        name = f"{kind} {entry.get('id', number)}"
        result = dict(entry)
        for key, (read, what) in rules.items():
            try:
                result[key] = read(entry.get(key))
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{root}: {where}: {name}: {key} is {shown(entry.get(key))}, not {what}") from error
        return result

    rules = {
        "images": {
            "id": (identity, "a number or a text"),
            "file_name": (text, "a text"),
            "height": (side, "a whole number of pixels"),
            "width": (side, "a whole number of pixels"),
        },
        "annotations": {
            "image_id": (identity, "a number or a text"),
            "category_id": (identity, "a number or a text"),
            "iscrowd": (flag, "0 or 1"),
        },
        "categories": {"id": (identity, "a number or a text"), "name": (text, "a text")},
    }
    result = dict(table)
    for kind, own in rules.items():
        entries = table.get(kind)
        if not isinstance(entries, list) or (kind == "categories" and not entries):
            what = "has no categories with id and name" if kind == "categories" else f"has no list of {kind}"
            raise ValueError(f"{root}: {where} {what}")
        singular = {"images": "image", "annotations": "object", "categories": "category"}[kind]
        result[kind] = [converted(singular, number, entry, own) for number, entry in enumerate(entries)]
    for kind, name in (("images", "file_name"), ("categories", "name")):
        by_id = {}
        for entry in result[kind]:
            if entry["id"] in by_id:
                both = f"{by_id[entry['id']][name]!r} and {entry[name]!r}"
                raise ValueError(f"{root}: {where}: two {kind} have the id {entry['id']}: {both}")
            by_id[entry["id"]] = entry
    return result


def shown(value):
    """A value of a file, for a message of one line."""
    return textwrap.shorten(json.dumps(value), 60, placeholder=" ...")


def identity(value):
    """An id, which some files have as a number in one place and as text in another."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    try:
        return side(value, least=None)
    except ValueError:
        return str(value)


def side(value, least=1):
    """A whole number of at least `least`, or None where there is none (0 stands for an unknown size)."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or float(value) != int(float(value)):
        raise ValueError
    number = int(float(value)) if not isinstance(value, int) else value
    if least is not None and number == 0:
        return None
    if least is not None and number < least:
        raise ValueError
    return number


def text(value):
    """A name, which may be a number."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise TypeError
    return str(value)


def flag(value):
    """Whether a flag is set: 0 or 1, as a number, as text, or false and true."""
    table = {None: False, "": False, "0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}
    key = value if value is None else str(value).strip().lower()
    if isinstance(value, (list, dict)) or key not in table:
        raise ValueError
    return table[key]


NO_CLASSES = ("_background_", "__background__", "background", "__ignore__")  # unless an object is of them


def categories(root, files, tables):
    """Names of the classes in the order of their ids, {id: label}, and the names that are left out.

    Exporters put into the list what is no class: Roboflow the project, with id 0, as the supercategory of all others;
    labelme the background.

    Raises:
        ValueError: files disagree on the categories, or a name stands there twice.
    """
    first, used, above = None, set(), {}
    for split, table in tables.items():
        where = os.path.relpath(files[split], root)
        found = {entry["id"]: entry["name"] for entry in table["categories"]}
        if len(set(found.values())) < len(found):
            raise ValueError(f"{root}: {where} names a category twice")
        if first is not None and found != first:
            raise ValueError(
                f"{root}: {where} has other categories than {os.path.relpath(next(iter(files.values())), root)}"
            )
        first = found
        used |= {annotation["category_id"] for annotation in table["annotations"]}
        above |= {entry["id"]: entry.get("supercategory") for entry in table["categories"]}
    dropped = []
    for number, name in first.items():
        others = [above[other] for other in first if other != number]
        if number not in used and ((others and set(others) == {name}) or name.lower() in NO_CLASSES):
            dropped.append(number)
    kept = [number for number in first if number not in dropped] or list(first)
    order = sorted(kept, key=lambda number: (isinstance(number, str), number))
    names = [first[number] for number in first if number not in order]
    return tuple(first[number] for number in order), {number: label for label, number in enumerate(order)}, names


def checked_files(root, files, places):
    """ValueError if two entries, of one annotation file or of two, name one picture."""
    seen = {}
    for split, found in places.items():
        where = os.path.relpath(files[split], root)
        for file in filter(None, found.values()):
            if file in seen:
                names = where if seen[file] == where else f"{seen[file]} and {where}"
                raise ValueError(
                    f"{root}: {os.path.relpath(file, root)} is named twice, in {names}: it can belong to one image only"
                )
            seen[file] = where


def find_images(root, split, annotations, table):
    """{position in the table: file or None}: pictures are looked for beside the annotations, in `images` and in the
    split's folder.
    """
    stem = re.sub(r"^(instances|person_keypoints)_", "", annotations.stem)
    inner = ["", "images", stem, f"images/{stem}"]
    for name in (name for name, meant in SPLITS.items() if meant == split):
        inner += [name, f"images/{name}", f"{name}/images"]
    folders = [base / name for base in (annotations.parent, annotations.parent.parent, root) for name in inner]
    folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir() and folder.is_relative_to(root)]
    found = {}
    for number, image in enumerate(table["images"]):
        name = image["file_name"]
        found[number] = next((folder / name for folder in folders if (folder / name).is_file()), None)
    return found


def read_object(annotation, size, index_of):
    """One object.

    Args:
        annotation: as in the file.
        size: (height, width) of its image.
        index_of: {category id: label}.

    Returns:
        (box (4,) float32, label, outline as compressed run lengths or None), or words that say why it cannot be used.
    """
    if annotation["category_id"] not in index_of:
        return f"unknown class {annotation['category_id']}"
    from utils.boxes import convert  # imports Keras, which most of utils.data does without

    outline = annotation.get("segmentation") or None
    if outline:
        if reason := wrong_outline(outline, size):
            return reason
        try:
            parts = (
                run_lengths.frPyObjects(outline, *size)
                if isinstance(outline, list) or isinstance(outline["counts"], list)
                else outline
            )
            outline = run_lengths.merge(parts) if isinstance(parts, list) else parts
            area = run_lengths.area(outline)
        except Exception as error:  # pycocotools raises errors of every kind, plain Exceptions among them
            return f"its outline cannot be read ({error})"
        if not area:
            return "its outline covers no pixel"
    try:
        bbox = annotation["bbox"] if "bbox" in annotation or not outline else run_lengths.toBbox(outline)
        x, y, width, height = map(float, bbox)
    except (KeyError, TypeError, ValueError):
        return f"bbox is {annotation.get('bbox')}, not four numbers"
    box, reason = checked_box(convert(np.array([x, y, width, height]), "xywh", "xyxy"), *size)
    return reason or (box, index_of[annotation["category_id"]], outline)


def wrong_outline(outline, size):
    """Words that say why an outline cannot be used, or "". pycocotools checks nothing: it reads memory that is not the
    mask's.
    """
    if isinstance(outline, list):
        for points in outline:
            if not isinstance(points, list) or not all(
                isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in points
            ):
                return "its outline cannot be read (a polygon is a list of numbers)"
            if len(points) % 2 or len(points) < 6:
                expected = "x and y of at least 3 points are expected"
                return f"its outline cannot be read (a polygon of {len(points)} numbers: {expected})"
        return ""
    try:
        sides = tuple(side(value) for value in outline["size"])
        counts = outline["counts"]
        runs = [side(run, least=None) for run in counts] if isinstance(counts, list) else runs_of(counts)
    except (KeyError, TypeError, ValueError, IndexError):
        return "its outline cannot be read (run lengths have size, two numbers, and counts)"
    if sides != tuple(size):
        return f"its outline is for {' x '.join(map(str, sides))}, its image {size[0]} x {size[1]} (height x width)"
    if any(run is None or run < 0 for run in runs):
        return "its outline cannot be read (a run length is below 0)"
    if sum(runs) != sides[0] * sides[1]:
        return f"its outline has run lengths of {sum(runs):,} pixels in all, its image has {sides[0] * sides[1]:,}"
    return ""


def runs_of(letters):
    """The run lengths in COCO's compressed text: 5 bits a letter, the sixth says that more follow; from the third on,
    the difference to the run before the last (`rleFrString` of the COCO API).

    Raises:
        ValueError: a letter that has no place in it, or a text that ends within a number.
    """
    codes = letters.encode("ascii") if isinstance(letters, str) else bytes(letters)
    runs, value, shift = [], 0, 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError
    return runs


def truth(item, size, targets):
    """The example of an item, without its image."""
    boxes = np.array([box for box, *_ in item.truth], np.float32).reshape(-1, 4)
    labels = np.array([label for _, label, *_ in item.truth], np.int32)
    ignored = np.array([crowd for *_, crowd in item.truth], bool)
    example = {"boxes": boxes, "labels": labels, "ignored": ignored}
    if "masks" in targets:
        masks = np.zeros((len(labels), *size), np.uint8)
        for row, (box, _, outline, _) in enumerate(item.truth):
            masks[row] = filled(box, size) if outline is None else run_lengths.decode(outline)
        semantic = np.zeros(size, np.uint8)
        # Crowds lie under everything, and larger objects under smaller ones.
        for row in np.lexsort((-masks.sum(axis=(1, 2), dtype=np.int64), ~ignored)):
            semantic[masks[row] == 1] = IGNORED if ignored[row] else labels[row] + 1
        example |= {"masks": masks, "mask": semantic}
    return {key: example[key] for key in targets}


def filled(box, size):
    """The mask (H, W) uint8 of the pixels whose centres lie in a box."""
    rows, columns = (np.arange(side) + 0.5 for side in size)
    x1, y1, x2, y2 = box
    return np.outer((rows >= y1) & (rows < y2), (columns >= x1) & (columns < x2)).astype(np.uint8)
