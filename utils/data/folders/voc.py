"""Pictures with an xml file each, in Pascal VOC's form.

    pictures/Annotations/a.xml  pictures/JPEGImages/a.jpg         as the challenge has it; also annotations and images
    pictures/a.xml  pictures/a.jpg                                xml beside images, as labelling tools write it
    pictures/train/...  pictures/test/...                         either of the two, split by whoever made it

Without folders for splits, `ImageSets/Main/train.txt`, `val.txt` and `test.txt` split it; without these it is split
here: 70 % train, 15 % validation, 15 % test; what is missing of the three is cut from the others. Classes are the names
that occur, sorted, or the lines of `classes.txt`. VOC counts pixels from 1 and means the
last one in: `xmin` 1 and `xmax` 3 cover three pixels, and the box here is 0 to 3. Objects marked as difficult are
`ignored`."""

import os
import pathlib
import re
import xml.etree.ElementTree

import numpy as np

from utils.data.folders.common import (
    SPLITS,
    Item,
    checked_box,
    child,
    class_list,
    orientations,
    pictures_in,
    report,
    source,
    split_folders,
    split_items,
)
from utils.data.folders.pictures import inspect_all, stored_size, visible

ANNOTATIONS, IMAGES = ("annotations", "annotation", "xml"), ("jpegimages", "images", "image")


def annotation_folders(root):
    """{split or None: (folder of xml files, folder of pictures)}; empty if the folder is not laid out like this."""
    if pair := pair_in(root):
        return {None: pair}
    found = {split: pair_in(folder) for split, folder in split_folders(root).items()}
    return {split: pair for split, pair in found.items() if pair}


def pair_in(folder):
    """(folder of xml files, folder of pictures) in one folder, or None."""
    for place in (child(folder, ANNOTATIONS), folder, child(folder, IMAGES)):
        if place and xml_files(place):
            return place, child(folder, IMAGES) or (folder if pictures_in(folder) else place)
    return None


def xml_files(folder):
    """The xml files in a folder, by name."""
    return [file for file in visible(folder) if file.suffix.lower() == ".xml"]


def voc(path, on_error="raise"):
    """The source of a folder with annotations in Pascal VOC's form.

    Raises:
        ValueError: xml files or pictures that cannot be read, have no partner or differ in size; objects of an unknown
            class, without area, or outside their image.
    """
    root = pathlib.Path(path).expanduser()
    unusable, entries, count = {}, {}, 0
    for split, (xml_folder, image_folder) in annotation_folders(root).items():
        by_name = {file.name: file for file in pictures_in(image_folder)}
        stems = {}
        for file in by_name.values():
            stems.setdefault(file.stem, []).append(file)
        pictures = {stem: files[0] for stem, files in stems.items() if len(files) == 1}
        count += len(by_name)
        entries[split], used = [], {}
        for file in xml_files(xml_folder):
            count += 1
            found = read_xml(file)
            if isinstance(found, str):
                unusable[file] = found
                used |= dict.fromkeys(stems.get(file.stem, []), file)  # its picture is not to blame
                continue
            picture = pictures.get(file.stem) or by_name.get(found["filename"])
            if picture is None and file.stem in stems:
                names = ", ".join(one.name for one in stems[file.stem])
                unusable |= dict.fromkeys(stems[file.stem], f"two pictures of one name: {names}")
                unusable[file] = f"two pictures of that name: {names}"
            elif picture is None:
                unusable[file] = f"no picture of that name in {os.path.relpath(image_folder, root)}"
            elif picture in used:
                unusable[file] = f"{picture.name} belongs to {used[picture].name} already"
            else:
                used[picture] = file
                entries[split].append((file, picture, found))
        for file in by_name.values():
            if file not in used and file not in unusable:
                unusable[file] = f"no xml of that name in {os.path.relpath(xml_folder, root)}"
    shapes, broken = inspect_all([picture for part in entries.values() for _, picture, _ in part])
    unusable |= broken
    entries, outside = by_image_sets(root, entries, unusable)
    listed = class_list(root, root)
    names = tuple(listed) if listed else class_names(entries)
    items, bad, difficult, total = {}, [], 0, 0
    sizes = {
        picture: found["size"] if found["size"] and all(found["size"]) else None
        for part in entries.values()
        for _, picture, found in part
        if picture in shapes
    }
    uprights, turned = orientations(sizes, shapes)
    for split, part in entries.items():
        items[split] = []
        for file, picture, found in part:
            if picture not in shapes:
                continue
            upright = uprights[picture]
            size = sizes[picture] or (shapes[picture][:2] if upright else stored_size(picture))
            if upright is None:
                height, width = shapes[picture][:2]
                unusable[picture] = (
                    f"is {height} x {width}, but {size[0]} x {size[1]} by {os.path.relpath(file, root)} (height x "
                    "width)"
                )
                continue
            objects = []
            for number, (name, box, is_difficult) in enumerate(found["objects"], 1):
                total += 1
                here = f"{os.path.relpath(file, root)}: object {number}, {name}"
                if name not in names:
                    place = "classes.txt" if listed else f"{next(iter(entries))}"
                    bad.append(
                        f"{here}: unknown class: {place} has {', '.join(names[:5])}"
                        + (", ..." if len(names) > 5 else "")
                    )
                    continue
                if isinstance(box, str):
                    bad.append(f"{here}: {box}")
                    continue
                checked, reason = checked_box(box, *size)
                if reason:
                    bad.append(f"{here}: {reason}")
                else:
                    difficult += is_difficult
                    objects.append((checked, names.index(name), is_difficult))
            items[split].append(Item(picture, objects, upright))
    left_out = report(root, on_error, unusable, count, bad, total)
    items, note = split_items(items)
    notes = [note, left_out, turned]
    if difficult:
        notes.append(f"{difficult} objects marked as difficult are ignored.")
    if outside:
        notes.append(f"{outside} pictures are in no list of ImageSets/Main and are left out.")
    return source(
        path,
        items,
        shapes,
        truth,
        title="pictures of your own, with annotations in Pascal VOC's form",
        classes=names,
        targets=("boxes", "labels", *(["ignored"] if difficult else [])),
        max_objects=max([1, *(len(item.truth) for part in items.values() for item in part)]),
        note=" ".join(filter(None, notes)),
    )


def read_xml(file):
    """What an xml file says.

    Returns:
        dict of filename, size (height, width) or None, objects [(name, box xyxy or words that say what is wrong,
        whether it is difficult)]; or words that say why the file cannot be used.
    """
    try:
        tree = xml.etree.ElementTree.parse(file).getroot()
    except (xml.etree.ElementTree.ParseError, OSError, ValueError) as error:
        return f"not XML: {error}"
    if tree.tag != "annotation":
        return f"an xml file of another kind: it begins with <{tree.tag}>, not with <annotation>"
    objects = []
    for entry in tree.findall("object"):
        try:
            corners = [float(entry.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            box = (corners[0] - 1, corners[1] - 1, *corners[2:])
        except (TypeError, ValueError):
            box = "bndbox has no four numbers"
        objects.append((entry.findtext("name", "").strip(), box, entry.findtext("difficult", "0").strip() == "1"))
    try:
        size = tuple(int(float(tree.findtext(f"size/{key}"))) for key in ("height", "width"))
    except (TypeError, ValueError):
        size = None
    return {"filename": tree.findtext("filename", "").strip(), "size": size, "objects": objects}


def by_image_sets(root, entries, unusable):
    """Splits entries that are not split by the lists in `ImageSets/Main`, if there are any.

    Returns:
        entries, number of pictures that stand in no list.
    """
    folder = root / "ImageSets" / "Main"
    files = [(split, folder / f"{name}.txt") for name, split in SPLITS.items() if (folder / f"{name}.txt").is_file()]
    lists = dict(files)
    if None not in entries or not lists:
        return entries, 0
    for split, file in files:
        if file != lists[split]:
            raise ValueError(f"{root}: two lists for the split {split}: {file.name}, {lists[split].name}")
    known = {file.stem: entry for entry in entries[None] for file in entry[:1]}
    told = {file.stem for file in unusable}
    result, taken = {}, {}
    for split, file in lists.items():
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        names = list(dict.fromkeys(listed_name(line, {*known, *told}) for line in lines if line))
        missing = [name for name in names if name not in known and name not in told]
        if missing:
            unusable[file] = f"{len(missing)} names without a picture and xml: {', '.join(missing[:3])}"
        twice = [name for name in names if name in taken]
        if twice:
            raise ValueError(
                f"{root}: {', '.join(twice[:3])} stand{'s' * (len(twice) == 1)} in {taken[twice[0]].name} and in "
                f"{file.name}"
            )
        taken |= dict.fromkeys(names, file)
        result[split] = [known[name] for name in names if name in known]
    return result, len(known) - len({entry[0] for part in result.values() for entry in part})


def listed_name(line, known):
    """The picture that a line of a list means: the whole line, which may have blanks; the line without a picture's
    ending; or what stands before the 1, 0 or -1 that says in VOC's lists of one class whether the picture has it.
    """
    for name in (line, re.sub(r"\s+(-1|0|1)$", "", line)):
        for one in (name, os.path.splitext(name)[0]):
            if one in known:
                return one
    return line


def class_names(entries):
    """The classes that occur in the training split, or in all where there is none; sorted."""
    part = entries.get("train") or [entry for part in entries.values() for entry in part]
    return tuple(sorted({name for _, _, found in part for name, _, _ in found["objects"] if name}))


def truth(item, size):
    """The example of an item, without its image."""
    return {
        "boxes": np.array([box for box, _, _ in item.truth], np.float32).reshape(-1, 4),
        "labels": np.array([label for _, label, _ in item.truth], np.int32),
        "ignored": np.array([is_difficult for _, _, is_difficult in item.truth], bool),
    }
