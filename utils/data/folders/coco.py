"""Pictures with an annotation file in COCO's form.

    pictures/annotations.json  pictures/*.jpg                                 split here: 70 % train, 15 % validation, 15 % test
    pictures/train/_annotations.coco.json  pictures/train/*.jpg  ...          split by whoever made it
    pictures/annotations/instances_val2017.json  pictures/val2017/*.jpg  ...  likewise, by the names of the files

Where every object has an outline (polygons, or run lengths), there are instance masks and a semantic mask, in which smaller objects lie
over larger ones. Crowds (`iscrowd`) are `ignored`: their pixels are 255 in the semantic mask, where no object lies over them, and a crowd
without an outline fills its box. The form: cocodataset.org/#format-data.
"""

import functools
import json
import os
import pathlib
import re

import numpy as np
from pycocotools import mask as run_lengths

from utils.boxes import convert
from utils.data.folders.common import (
    ORDER,
    SPLITS,
    Item,
    checked_box,
    orientation,
    pictures_in,
    report,
    source,
    split_folders,
    split_items,
)
from utils.data.folders.pictures import inspect_all, visible
from utils.data.geometry import IGNORED


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
        ValueError: an annotation file without categories or of other ones; pictures that are missing, do not decode, have another size or
            stand in no annotation file; objects of an unknown class or image, without area, or outside their image.
    """
    root = pathlib.Path(path).expanduser()
    files, _ = annotation_files(root)
    tables = {split: read_json(file) for split, file in files.items()}
    names, index_of = categories(root, files, tables)
    places = {split: find_images(root, split, files[split], tables[split]) for split in files}
    entries = {split: table["images"] for split, table in tables.items()}
    present = [file for part in places.values() for file in part.values() if file]
    shapes, unusable = inspect_all(present)
    named = {file for part in places.values() for file in part.values() if file}
    bad, crowds, total, items, count = [], 0, 0, {}, 0
    for split, table in tables.items():
        where = os.path.relpath(files[split], root)
        images = {}
        for number, image in enumerate(entries[split]):
            file = places[split][number]
            count += 1
            if file is None:
                unusable[root / str(image.get("file_name"))] = f"named by {where}, but not there"
            elif file in shapes:
                size = (image.get("height") or shapes[file][0], image.get("width") or shapes[file][1])
                upright = orientation(file, shapes[file], size)
                if upright is None:
                    height, width = shapes[file][:2]
                    unusable[file] = f"is {height} x {width}, but {size[0]} x {size[1]} by {where} (height x width)"
                else:
                    images[image.get("id")] = file, size, upright, []
        known = {image.get("id") for image in entries[split]}
        for number, annotation in enumerate(table["annotations"]):
            total += 1
            here = f"{where}: object {annotation.get('id', number)}"
            if annotation.get("image_id") not in known:
                bad.append(f"{here}: there is no image {annotation.get('image_id')}")
                continue
            if annotation["image_id"] not in images:
                continue  # its picture is told already
            file, size, _, objects = images[annotation["image_id"]]
            found = read_object(annotation, size, index_of)
            if isinstance(found, str):
                bad.append(f"{here} in {file.name}: {found}")
            else:
                crowd = bool(annotation.get("iscrowd"))
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
        note=" ".join(filter(None, (note, *notes))),
    )


def categories(root, files, tables):
    """Names of the classes in the order of their ids, and {id: label}; ValueError where files lack or disagree on them."""
    first = None
    for split, table in tables.items():
        where = os.path.relpath(files[split], root)
        try:
            found = {entry["id"]: str(entry["name"]) for entry in table["categories"]}
            images = all(isinstance(entry, dict) for entry in (*table["images"], *table["annotations"]))
        except (KeyError, TypeError):
            found, images = {}, False
        if not found or not images:
            raise ValueError(f"{root}: {where} has no categories with id and name, or its lists hold no objects")
        if len(set(found.values())) < len(found):
            raise ValueError(f"{root}: {where} names a category twice")
        if first is not None and found != first:
            raise ValueError(
                f"{root}: {where} has other categories than {os.path.relpath(next(iter(files.values())), root)}"
            )
        first = found
    order = sorted(first)
    return tuple(first[number] for number in order), {number: label for label, number in enumerate(order)}


def find_images(root, split, annotations, table):
    """{position in the table: file or None}: pictures are looked for beside the annotations, in `images` and in the split's folder."""
    stem = re.sub(r"^(instances|person_keypoints)_", "", annotations.stem)
    inner = ["", "images", stem, f"images/{stem}"]
    for name in (name for name, meant in SPLITS.items() if meant == split):
        inner += [name, f"images/{name}", f"{name}/images"]
    folders = [base / name for base in (annotations.parent, annotations.parent.parent, root) for name in inner]
    folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir() and folder.is_relative_to(root)]
    found = {}
    for number, image in enumerate(table["images"]):
        name = str(image.get("file_name", ""))
        found[number] = next((folder / name for folder in folders if name and (folder / name).is_file()), None)
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
    if annotation.get("category_id") not in index_of:
        return f"unknown class {annotation.get('category_id')}"
    outline = annotation.get("segmentation") or None
    if outline:
        try:
            parts = (
                run_lengths.frPyObjects(outline, *size)
                if isinstance(outline, list) or isinstance(outline["counts"], list)
                else outline
            )
            outline = run_lengths.merge(parts) if isinstance(parts, list) else parts
            sides = tuple(outline["size"])
            area = run_lengths.area(outline)
        except Exception as error:  # pycocotools raises errors of every kind, plain Exceptions among them
            return f"its outline cannot be read ({error})"
        if sides != tuple(size):
            return f"its outline is for {sides[0]} x {sides[1]}, its image {size[0]} x {size[1]} (height x width)"
        if not area:
            return "its outline covers no pixel"
    try:
        bbox = annotation["bbox"] if "bbox" in annotation or not outline else run_lengths.toBbox(outline)
        x, y, width, height = map(float, bbox)
    except (KeyError, TypeError, ValueError):
        return f"bbox is {annotation.get('bbox')}, not four numbers"
    box, reason = checked_box(convert(np.array([x, y, width, height]), "xywh", "xyxy"), *size)
    return reason or (box, index_of[annotation["category_id"]], outline)


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
