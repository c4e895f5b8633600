"""Folders as strangers have them, drawn on the spot: every layout, with what notebooks stumble over."""

import json

import numpy as np
from PIL import Image

SPLITS = {"whole": (None,), "two": ("train", "val"), "one": ("train",)}


def scene(random, size, kind, grey=False):
    """A dim ground with a bright square (kind 0) or disc (kind 1), and where it lies: image (H, W, 3), (x1, y1, x2,
    y2), inside (H, W) bool.
    """
    height, width = size
    image = random.integers(20, 90, (height, width, 3)).astype(np.uint8)
    side = int(min(size) * random.uniform(0.3, 0.6))
    top, left = (int(random.integers(0, n - side + 1)) for n in size)
    rows, columns = np.mgrid[:height, :width] + 0.5
    centre = top + side / 2, left + side / 2
    if kind:
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (side / 2) ** 2
    else:
        inside = (abs(rows - centre[0]) < side / 2) & (abs(columns - centre[1]) < side / 2)
    image[inside] = (230, 200, 60) if not kind else (60, 120, 230)
    return image, (left, top, left + side, top + side), inside


def folder(root, layout, splits="two", count=24, size=(40, 60), grey=False, sizes_differ=False, seed=0):
    """A folder of pictures with two classes, "square" and "disc".

    Args:
        root: where to make it.
        layout: "classes", "pairs", "coco" or "voc".
        splits: "two" for train and val only, "one" for one split, "whole" for none.
        count: pictures of each class in the first split; half as many in the second.
        size: (height, width) of the pictures.
        grey: whether the pictures are grey.
        sizes_differ: whether every picture has a size of its own.
        seed: int.

    Returns:
        root.
    """
    random = np.random.default_rng(seed)
    for place, split in enumerate(SPLITS[splits]):
        base = root / split if split else root
        table = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
        }
        for number in range(2 * count // (1 + place)):
            kind, name = number % 2, f"{split or 'p'}{number:04d}"
            own = tuple(int(n * random.uniform(0.7, 1.3)) for n in size) if sizes_differ else size
            image, box, inside = scene(random, own, kind)
            image = Image.fromarray(image).convert("L") if grey else Image.fromarray(image)
            where = {
                "classes": base / ("disc" if kind else "square"),
                "pairs": base / "images",
                "coco": base / "images",
                "voc": base / "JPEGImages",
            }[layout]
            where.mkdir(parents=True, exist_ok=True)
            image.save(where / f"{name}.png")
            x1, y1, x2, y2 = box
            if layout == "pairs":
                (base / "masks").mkdir(exist_ok=True)
                Image.fromarray((inside * (kind + 1)).astype(np.uint8)).save(base / "masks" / f"{name}.png")
            elif layout == "coco":
                table["images"].append({"id": number, "file_name": f"{name}.png", "height": own[0], "width": own[1]})
                outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
                table["annotations"].append(
                    {
                        **{"id": number, "image_id": number, "category_id": kind + 1, "segmentation": outline},
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                    }
                )
            elif layout == "voc":
                (base / "Annotations").mkdir(exist_ok=True)
                (base / "Annotations" / f"{name}.xml").write_text(
                    f"<annotation><filename>{name}.png</filename>"
                    f"<size><height>{own[0]}</height><width>{own[1]}</width></size>"
                    f"<object><name>{'disc' if kind else 'square'}</name>"
                    f"<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
                    "</object></annotation>"
                )
        if layout == "coco":
            (base / "annotations.json").write_text(json.dumps(table))
    return root


def many_classes(root, seed=0):
    """A folder as people cut it from COCO: 68 + 60 pictures in landscape and portrait with up to nine objects of 80
    classes, whose ids have gaps, as have those of the pictures; some pictures without an object, some objects as crowds
    with a run-length mask, some of two pixels. Most classes are in one split only.
    """
    random = np.random.default_rng(seed)
    ids = sorted(random.choice(np.arange(1, 91), 80, replace=False).tolist())
    categories = [{"id": number, "name": f"thing {number}", "supercategory": "thing"} for number in ids]
    for split, count in (("train", 68), ("val", 60)):
        base = root / split
        (base / "images").mkdir(parents=True)
        table = {"images": [], "annotations": [], "categories": categories}
        for place in range(count):
            number, (height, width) = 139 + 7 * place, ((96, 128), (128, 96), (112, 112))[place % 3]
            image = random.integers(20, 90, (height, width, 3)).astype(np.uint8)
            table["images"].append({"id": number, "file_name": f"{number:012}.jpg", "height": height, "width": width})
            for _ in range(0 if place % 9 == 4 else int(random.integers(1, 10))):
                w, h = (int(side) for side in random.integers(2, 60, 2))
                left, top = int(random.integers(0, width - w)), int(random.integers(0, height - h))
                kind = int(random.integers(0, 80) ** 2 // 80)
                image[top : top + h, left : left + w] = 90 + 2 * kind, 255 - 2 * kind, 40 * (kind % 5)
                crowd = random.random() < 0.1
                outline = [[left, top, left + w, top, left + w, top + h, left, top + h]]
                if crowd:  # columns, one after the other: where it is not, where it is, in turns
                    mask = np.zeros((height, width), np.uint8)
                    mask[top : top + h, left : left + w] = 1
                    line = np.concatenate([[0], mask.T.ravel(), [0]])
                    changes = np.flatnonzero(np.diff(line)).tolist()
                    counts = np.diff([0, *changes, mask.size]).tolist()
                    outline = {"size": [height, width], "counts": counts}
                told = {"id": 5 * len(table["annotations"]) + 11, "image_id": number, "category_id": ids[kind]}
                told |= {"bbox": [left, top, w, h], "area": w * h, "iscrowd": int(crowd), "segmentation": outline}
                table["annotations"].append(told)
            Image.fromarray(image).save(base / "images" / f"{number:012}.jpg")
        (base / "annotations.json").write_text(json.dumps(table))
    return root
